"""The text that a new agreement begins as: valid once its members are in it, and explained line by line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from mpcpriv.types import DEALER

_UNKNOWN_CODE: Final = "0" * 64


@dataclass(frozen=True)
class Candidate:
    """Who will be a member.

    Attributes:
        name: of the party; the one called "dealer" gets that role.
        certificate: PEM.
        signing_key: base64 of the public half.
    """

    name: str
    certificate: str
    signing_key: str


_NOBODY: Final = tuple(
    Candidate(name, f"PASTE {name}'s tls.crt HERE\n", "PASTE WHAT `mpcpriv init` PRINTED")
    for name in ("alice", "bob", DEALER)
)


def template(
    name: str, *, now: datetime, members: Sequence[Candidate] = (), code: Mapping[str, str] | None = None
) -> str:
    """An agreement to be filled in, as TOML with comments.

    Args:
        name: the agreement's id.
        now: it is valid from today for a year.
        members: the members in rank order; without any, there are places to fill.
        code: the digests of the analyses that are installed.
    """
    chosen = members or _NOBODY
    owners = [member.name for member in chosen if member.name != DEALER]
    start = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    code = code or {}
    return "\n".join(
        [
            _HEAD.format(name=name, start=_time(start), end=_time(start + timedelta(days=365))),
            *map(_member, chosen),
            _DATASETS,
            *(_DATASET.format(owner=owner) for owner in owners),
            _alignment(owners),
            _ANALYSES,
            _MEAN.format(
                code=code.get("count-and-mean", _UNKNOWN_CODE),
                inputs=_inputs(owners, '["age", "marker"]'),
                owners=_list(owners),
            ),
            _REGRESSION.format(
                code=code.get("logistic-regression", _UNKNOWN_CODE),
                inputs=_inputs(owners, '["age", "marker", "ill"]'),
                owners=_list(owners),
                first=_list(owners[:1]),
            ),
        ]
    )


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _list(names: Sequence[str]) -> str:
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"


def _inputs(owners: Sequence[str], columns: str) -> str:
    return "\n".join(f"{owner}-patients = {columns}" for owner in owners)


def _alignment(owners: Sequence[str]) -> str:
    keys = (_KEY.format(owner=owner) for owner in owners[:2])
    return _ALIGNMENT + "".join(keys)


def _member(member: Candidate) -> str:
    roles = [DEALER] if member.name == DEALER else ["data-owner", "compute", "recipient", "submitter"]
    return _MEMBER.format(
        name=member.name,
        roles=_list(roles),
        certificate=member.certificate.rstrip("\n"),
        signing_key=member.signing_key,
    )


_HEAD: Final = """\
# A data-sharing agreement. Nothing is computed on anybody's rows unless every member has signed this text,
# and then each member holds each job against its own copy.
#
#   mpcpriv agreement check THIS.toml                            what is still wrong with it
#   mpcpriv agreement show THIS.toml                             what it permits, in plain words
#   mpcpriv agreement sign THIS.toml --config party.toml         each member signs; then all exchange
#   mpcpriv agreement verify THIS.toml                           THIS.agreement.json, the signed form
#
# Comments and the order of lines are not part of what is signed; every value is.

id = "{name}"                  # stays the same over all versions
version = 1                    # raise it with every change; a higher version supersedes all lower ones
title = "What this agreement is about"
text = "Anything that people should know and no program can check."

# A job is refused when it was created outside these times. UTC, whole seconds.
valid_from = {start}
valid_until = {end}

# "steward": at each data owner a person approves each job. "automatic": a job that breaks no term runs.
approval = "steward"
retention_days = 365           # for so long daemons keep results

# ---- Purposes: every job names one.

[[purposes]]
name = "research"
legal_basis = "GDPR Art. 9(2)(j)"
text = "Scientific research in the public interest; results are published as aggregates."

# ---- Privacy: how results leave.

[privacy]
mechanism = "none"             # of differential privacy: "none", "discrete-gaussian", "discrete-laplace"
unnoised = true                # whether results may be released without noise,
minimum_cohort = 50            # and from at least how many rows
smallest_cell = 5              # the smallest count that is then shown
# rounding = 5                 # then only counts are released, rounded to multiples of this
releases = 100                 # from each data set, over the agreement's life; leave out for any number
# collusion = 1                # so many colluding members must not undo the noise; left out: all but one

# ---- Members. Roles: data-owner has rows, compute holds shares (in this order of rank), dealer deals
# randomness (exactly one; it must not collude with anybody, so give it to someone without a stake),
# recipient may get results, submitter may ask for jobs. `mpcpriv init` makes certificate and key.
"""

_MEMBER: Final = '''\
[[members]]
name = "{name}"
roles = {roles}
endpoint = "{name}.example:9400"
certificate = """
{certificate}
"""
signing_key = "{signing_key}"
'''

_DATASETS: Final = """\
# ---- Data sets: one owner each. Names, types, bounds and categories are public; rows never are.
# Types: "number" and "integer" (with low and high), "boolean" (0 or 1), "category" (with categories = [..]),
# "identifier" (text that says whom a row is about; it stays at its owner, for alignments only).
# A column of which values may be missing has missing = true; few analyses take it.
"""

_DATASET: Final = """\
[[datasets]]
name = "{owner}-patients"
owner = "{owner}"
privacy_unit = "patient"       # whom a row is about
minimum_rows = 20              # with fewer rows the owner takes no part
columns = [
    {{ name = "age", type = "integer", low = 0, high = 120 }},
    {{ name = "marker", type = "number", low = 0.0, high = 10.0 }},
    {{ name = "ill", type = "boolean" }},
]
# budget = {{ epsilon = 1.0, delta = 1e-6, period_days = 365 }}     # with a mechanism only
"""

_ALIGNMENT: Final = """\
# ---- Alignments: where data sets have different columns about the same people, how their owners find the
# rows that all of them have. A job says alignment = "people". mode = "all": each owner learns which of its
# own rows all have, and how many rows each has. mode = "secret", of two data sets: nobody learns whose rows
# both have; few analyses take it. Rules write keys alike: docs/alignment.md lists them.
#
# [[alignments]]
# name = "people"
# mode = "all"
# minimum_rows = 50            # with fewer in common nothing is computed
# [alignments.keys]            # by data set; the first columns are compared, then the second ones
"""

_KEY: Final = """\
# {owner}-patients = [
#     {{ column = "name", rules = ["nfkc", "casefold", "no-diacritics", "no-punctuation", "single-spaces"] }},
#     {{ column = "born", rules = ["date-dmy"] }},
# ]
"""

_ANALYSES: Final = """\
# ---- Analyses: what may be computed. `code` is the digest that `mpcpriv analyses --code` prints: what runs
# at each member is what was agreed, or nothing runs.
"""

_MEAN: Final = """\
[[analyses]]
name = "count-and-mean"
code = "{code}"
purposes = ["research"]
recipients = {owners}
submitters = {owners}
[analyses.inputs]              # by data set, the columns that it may use
{inputs}
"""

_REGRESSION: Final = """\
[[analyses]]
name = "logistic-regression"
code = "{code}"
purposes = ["research"]
recipients = {owners}
submitters = {first}
[analyses.inputs]
{inputs}
[analyses.parameters]          # what may be given, and within which limits; nothing else may be
target = {{ choices = ["ill"] }}
steps = {{ low = 1, high = 50 }}
penalty = {{ low = 1.0, high = 10000.0 }}
"""

"""What a recipient makes of all parties' shares: the answer, and a statement of how it was released."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import rfc8785

from mpcpriv.agreement.admit import AdmittedJob
from mpcpriv.alignment.secret import bins
from mpcpriv.analyses.analysis import (
    Analysis,
    Answer,
    Asked,
    Computed,
    Finished,
    Perturbed,
    Private,
    TakesMissing,
)
from mpcpriv.analyses.outline import Outline, together
from mpcpriv.analyses.query import Noised
from mpcpriv.errors import UsageError
from mpcpriv.privacy.mechanism import Noise
from mpcpriv.release.noise import collusion, noise_for, noise_of_steps, threshold
from mpcpriv.release.price import composition
from mpcpriv.release.rules import check, rounding, summed
from mpcpriv.release.share import Layout, combine
from mpcpriv.release.unseen import COMMON, common, secret
from mpcpriv.release.withheld import TOLD, Watch

QUERY: Final = "query"
"""What the sums of a query are called."""


@dataclass(frozen=True)
class Result:
    """What a recipient has.

    Attributes:
        answer: by name, numbers, text, or lists of them.
        job: digest of the job that asked for it.
        salt: 32 bytes in hexadecimal that only the recipients know. Everybody may see the digest; without the
            salt, whoever can list the possible results would know from the digest which one it is.
        statement: what was released to whom, and how.
    """

    answer: Answer
    job: str
    salt: str
    statement: Mapping[str, Any]

    def canonical(self) -> bytes:
        """RFC 8785 JSON of it."""
        return rfc8785.dumps(
            {
                "job": self.job,
                "result": dict(self.answer),
                "salt": self.salt,
                "statement": dict(self.statement),
            }
        )

    def digest(self) -> str:
        """SHA-256 of the canonical bytes, in hexadecimal; the same at all recipients."""
        return hashlib.sha256(self.canonical()).hexdigest()


def asked(admitted: AdmittedJob, analysis: Analysis, rows: Mapping[str, int]) -> Asked:
    """What is public of a job, once the owners have told how many rows there are.

    Raises:
        UsageError: the parameters are none of the analysis, or it takes no missing values.
    """
    datasets = {one.name: one for one in admitted.agreement.datasets}
    tables = {
        one.dataset: Outline.of(datasets[one.dataset], one.columns, rows[one.dataset])
        for one in admitted.job.inputs
    }
    if not isinstance(analysis, TakesMissing):
        for name, table in tables.items():
            for column in table.columns.values():
                if column.missing:
                    raise UsageError(
                        f"column {column.name!r} of data set {name} may have missing values, and analysis "
                        f"{analysis.name} takes none; leave it out, or agree on a data set without them"
                    )
    parameters = analysis.parameters.model_validate(dict(admitted.job.parameters))
    return Asked(parameters, tables, admitted.job.release.epsilon)


def read_result(
    admitted: AdmittedJob,
    analysis: Analysis,
    rows: Mapping[str, int],
    layout: Sequence[Layout],
    contents: Sequence[bytes],
) -> Result:
    """Opens a result from the shares of all computing parties, which they had committed to.

    Args:
        admitted: the job.
        analysis: that it names.
        rows: by data set, how many take part; of all rows, where nobody knew which do.
        layout: what the shares hold.
        contents: the shares, by rank.

    Raises:
        UsageError: the shares are not such, or of too few rows, or the analysis cannot read them, or the
            result was withheld.
    """
    opened, salt = combine(layout, contents)
    count = None
    if secret(admitted.agreement, admitted.job):
        count = bins(min(rows.values()))
        rows = dict.fromkeys(rows, common(admitted, layout, opened))
        layout = [one for one in layout if one.name != COMMON]
    public = replace(asked(admitted, analysis, rows), count=count)
    cohort = together(public.tables)[0].rows
    check(admitted, analysis, cohort, rows)
    watch = Watch(admitted, analysis, public)
    if watch:
        (*layout, last) = layout
        if (last.name, last.size, last.bits) != (TOLD, 1, 0):
            raise UsageError(f"analysis {admitted.job.analysis}: whether it was withheld was not opened")
        watch.told(opened)
    statement = _statement(admitted, cohort, rows)
    if summed(admitted, analysis) and (public.noised or not isinstance(analysis, Finished)):
        assert isinstance(analysis, Private)
        query = analysis.query(public)
        (held, *more) = layout
        if more or (held.name, held.size, held.bits) != (QUERY, 1 if query.choose else query.size, 0):
            raise UsageError(f"analysis {admitted.job.analysis}: what was opened is not what it asks for")
        noise = noise_for(admitted, query)
        deviation = 0.0 if noise is None else math.sqrt(noise.variance)
        sums = opened[QUERY]
        answer = query.read(Noised(sums, deviation, threshold(query, noise)))
        base = rounding(admitted, query)
        if base is not None:
            statement["rounding"] = f"each count to the nearest multiple of {base}, half of it up"
        if noise is not None:
            most = query.sensitivity()
            norms = {"sensitivity_l1": most.l1, "sensitivity_l2": math.sqrt(most.l2_squared)}
            statement["privacy"] = _privacy(admitted, noise, **norms)
    else:
        assert isinstance(analysis, Computed)
        if isinstance(analysis, Perturbed):
            noise = noise_of_steps(admitted, analysis)
            assert noise is not None
            public = replace(public, noise=noise)
            steps = composition(admitted.agreement, admitted.job, analysis)
            statement["privacy"] = _privacy(admitted, noise, sensitivity_l2=steps.l2, steps=steps.steps)
        answer = analysis.read(public, {one.name: opened[one.name] / 2.0**one.bits for one in layout})
    return Result(
        {name: _plain(name, one) for name, one in answer.items()},
        admitted.job.digest(),
        salt.hex(),
        statement,
    )


def _privacy(admitted: AdmittedJob, noise: Noise, **sensitivity: float) -> dict[str, Any]:
    """The mechanism in numbers; sensitivities and noise in units of the grid that it is on."""
    gaussian = noise.kind == "discrete-gaussian"
    return {
        "mechanism": noise.kind,
        "epsilon": admitted.job.release.epsilon,
        "delta": admitted.job.release.delta or 0.0,
        "neighbours": "one row's contribution is there, or is not; the number of rows is public",
        **sensitivity,
        "scale": math.sqrt(noise.scale) if gaussian else float(noise.scale),
        "noise": math.sqrt(noise.variance),
        "parties": len(admitted.parties),
        "collusion": noise.collusion,
    }


def _statement(admitted: AdmittedJob, cohort: int, rows: Mapping[str, int]) -> dict[str, Any]:
    """What was released to whom, in a sentence, who could learn more, and what it was computed from."""
    agreement, release = admitted.agreement, admitted.job.release
    terms = agreement.terms(admitted.job.analysis)
    assert terms is not None
    source = {
        "rows": dict(rows),
        "agreement": {"title": agreement.title, "digest": agreement.digest()},
        "code": terms.code,
    }
    to = ", ".join(admitted.recipients)
    under = f"computed from {cohort} rows, under agreement {agreement.id} version {agreement.version}"
    if release.epsilon is None:
        return {
            "text": f"{admitted.job.analysis}: released to {to} without noise, {under}",
            "more": (
                "what the result tells of the others' rows is not bounded; a recipient who knows some of the "
                "rows can take them out of it"
            ),
            **source,
        }
    most, parties = collusion(admitted), len(admitted.parties)
    delta = f", delta {release.delta:g}" if release.delta else ""
    return {
        "text": (
            f"{admitted.job.analysis}: released to {to} with differential privacy, "
            f"epsilon {release.epsilon:g}{delta}, {under}"
        ),
        "more": (
            f"up to {most} of the {parties} computing parties may show each other their noise and learn no "
            f"more than this; {'all' if most + 1 == parties else f'{most + 1} or more'} of them together do"
        ),
        **source,
    }


def _plain(name: str, value: Any) -> Any:
    """A value that JSON holds exactly."""
    items = value if isinstance(value, list) else [value]
    whole = all(type(item) in (int, float, str) for item in items)
    if not whole or not all(np.isfinite(item) for item in items if type(item) is not str):
        raise UsageError(f"result {name!r}: an analysis returns finite numbers, text, or lists of them")
    return value

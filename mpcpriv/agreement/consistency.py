"""What the parts of an agreement must be to each other. Each rule lists all that breaks it in plain words."""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from mpcpriv.documents import shown
from mpcpriv.types import PartyId

if TYPE_CHECKING:
    from mpcpriv.agreement.model import (
        AlignmentTerms,
        AnalysisTerms,
        ColumnTerms,
        Dataset,
        Limit,
        Member,
        Privacy,
        Purpose,
    )

_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?):([1-9][0-9]{0,4})")


_MALFORMED: Final = (
    ValueError,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
)


def of_agreement(parts: Mapping[str, Any]) -> list[str]:
    """What is wrong between the parts of an agreement.

    Args:
        parts: by field, those that are right in themselves; rules about others are left out.
    """
    found = []
    for fields, rule in _RULES:
        if all(field in parts for field in fields):
            found += rule(*(parts[field] for field in fields))
    return found


def of_member(member: Member) -> list[str]:
    """What is wrong with a member by itself."""
    found = _twice("roles", "role", member.roles)
    match = _HOST.fullmatch(member.endpoint)
    if match is None or int(match[3]) > 65_535:
        found.append(f"endpoint {member.endpoint!r}: write host:port, as alice.example:9300")
    if "dealer" in member.roles and {"data-owner", "compute", "recipient"} & {*member.roles}:
        found.append(
            f"roles of {member.name}: a dealer that computes, holds data or gets results could read the "
            "others' data; give these roles to another member"
        )
    if "data-owner" in member.roles and not {"compute", "dealer"} & {*member.roles}:
        found.append(
            f"roles of {member.name}: a data-owner shares its rows in the computation; add the role compute"
        )
    if not _is_signing_key(member.signing_key):
        found.append(
            f"signing_key {shown(member.signing_key)}: an Ed25519 public key in base64 is needed, "
            "as `mpcpriv init` prints it"
        )
    return [*found, *_certificate(member)]


def _certificate(member: Member) -> list[str]:
    try:
        certificate = _parsed(member.certificate)
        key = certificate.public_key()
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return [f"certificate of {member.name}: it carries no name; use the one that `mpcpriv init` made"]
    except _MALFORMED:
        return [f"certificate of {member.name}: one certificate in PEM is needed, as in the member's tls.crt"]
    found = []
    if certificate.serial_number <= 0:
        found.append(f"certificate of {member.name}: its serial number must be positive (RFC 5280, 4.1.2.2)")
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if uris != [PartyId(member.name).uri]:
        found.append(
            f"certificate of {member.name}: it carries {', '.join(uris) or 'no URI'}, "
            f"and must carry {PartyId(member.name).uri} alone"
        )
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        found.append(f"certificate of {member.name}: its key must be ECDSA P-256, as `mpcpriv init` makes it")
    return found


def _parsed(pem: str) -> x509.Certificate:
    (certificate,) = x509.load_pem_x509_certificates(pem.encode())
    return certificate


def _is_signing_key(text: str) -> bool:
    try:
        raw = base64.b64decode(text, validate=True)
        ed25519.Ed25519PublicKey.from_public_bytes(raw)
    except (ValueError, UnsupportedAlgorithm):
        return False
    return base64.b64encode(raw).decode() == text


def of_column(column: ColumnTerms) -> list[str]:
    """What is wrong with a column's terms."""
    name, found = f"column {column.name!r}", []
    if column.type in ("number", "integer"):
        if column.low is None or column.high is None:
            found.append(f"{name}: a column of type {column.type} needs public bounds; write low and high")
        elif not column.low < column.high:
            found.append(f"{name}: low = {column.low:g} must be less than high = {column.high:g}")
        if column.type == "integer":
            found += [
                f"{name}: {bound} = {value!r} of a column of integers must be whole"
                for bound, value in (("low", column.low), ("high", column.high))
                if value is not None and not value.is_integer()
            ]
    elif column.low is not None or column.high is not None:
        found.append(f"{name}: a column of type {column.type} has no bounds; remove low and high")
    if column.type == "category":
        if not column.categories:
            found.append(f"{name}: a column of type category needs its categories; list them")
        else:
            found += _twice(f"{name}, categories", "category", column.categories)
    elif column.categories is not None:
        found.append(f"{name}: only a column of type category has categories; remove them")
    return found


def of_limit(limit: Limit) -> list[str]:
    """What is wrong with a parameter's limit."""
    bounds = limit.low is not None or limit.high is not None
    if bounds == (limit.choices is not None):
        return ["a parameter is limited by low and high, or by choices; write one of the two"]
    if limit.low is not None and limit.high is not None and limit.low > limit.high:
        return [f"low = {limit.low:g} must not exceed high = {limit.high:g}"]
    return []


def _validity(start: datetime, end: datetime) -> list[str]:
    if start < end:
        return []
    return [f"valid_from {start:%Y-%m-%dT%H:%M:%SZ}: must be before valid_until {end:%Y-%m-%dT%H:%M:%SZ}"]


def _purposes(purposes: list[Purpose]) -> list[str]:
    return _twice("purposes", "purpose", [purpose.name for purpose in purposes])


def _members(members: list[Member]) -> list[str]:
    found = _twice("members", "name", [member.name for member in members])
    dealers = [member.name for member in members if "dealer" in member.roles]
    computing = [member.name for member in members if "compute" in member.roles]
    if len(dealers) != 1:
        found.append(
            f"members: the dealers are {', '.join(dealers) or 'none'}; exactly one member has the role dealer"
        )
    if len(computing) < 2:
        found.append(
            f"members: computing are {', '.join(computing) or 'none'}; nothing is secret from oneself, "
            "so two members or more have the role compute"
        )
    found += _twice("members", "signing_key", [member.signing_key for member in members])
    keys = [
        _parsed(member.certificate)
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        for member in members
    ]
    if len(set(keys)) < len(keys):
        found.append("members: two certificates have the same key; each member has its own")
    found += _twice("members", "endpoint", [member.endpoint for member in members])
    return found


def _datasets(datasets: list[Dataset], members: list[Member]) -> list[str]:
    found = _twice("datasets", "data set", [dataset.name for dataset in datasets])
    for dataset in datasets:
        place = f"data set {dataset.name}"
        found += _role(f"{place}, owner", [dataset.owner], "data-owner", members)
        found += _twice(f"{place}, columns", "column", [column.name for column in dataset.columns])
    return found


def _analyses(
    analyses: list[AnalysisTerms], purposes: list[Purpose], datasets: list[Dataset], members: list[Member]
) -> list[str]:
    found = _twice("analyses", "analysis", [terms.name for terms in analyses])
    columns = {dataset.name: [column.name for column in dataset.columns] for dataset in datasets}
    identifiers = {
        dataset.name: [column.name for column in dataset.columns if column.type == "identifier"]
        for dataset in datasets
    }
    known = [purpose.name for purpose in purposes]
    for terms in analyses:
        place = f"analysis {terms.name}"
        found += [
            f"{place}, purposes: {name} is none of the agreement's ({', '.join(known)})"
            for name in terms.purposes
            if name not in known
        ]
        found += _twice(f"{place}, purposes", "purpose", terms.purposes)
        found += _role(f"{place}, recipients", terms.recipients, "recipient", members)
        found += _role(f"{place}, submitters", terms.submitters, "submitter", members)
        for dataset, wanted in terms.inputs.items():
            if dataset not in columns:
                found.append(f"{place}, inputs: there is no data set {dataset}; add it to the datasets")
                continue
            found += _twice(f"{place}, inputs, {dataset}", "column", wanted)
            found += [
                f"{place}, inputs: data set {dataset} has no column {column!r}; it has "
                f"{shown(columns[dataset])}"
                for column in wanted
                if column not in columns[dataset]
            ]
            found += [
                f"{place}, inputs: column {column!r} of {dataset} is an identifier; no analysis may use it, "
                "remove it"
                for column in wanted
                if column in identifiers[dataset]
            ]
    return found


def _alignments(alignments: list[AlignmentTerms] | None, datasets: list[Dataset]) -> list[str]:
    known = {dataset.name: dataset for dataset in datasets}
    named = alignments or []
    found = _twice("alignments", "alignment", [one.name for one in named])
    for one in named:
        place = f"alignment {one.name}"
        if one.name in known:
            found.append(f"{place}: a data set has this name; give it another")
        if one.mode == "secret" and len(one.keys) > 2:
            found.append(f'{place}: mode = "secret" is of two data sets; there are {len(one.keys)} keys')
        there = [known[name] for name in one.keys if name in known]
        found += _twice(f"{place}, keys", "owner", [dataset.owner for dataset in there])
        units = {dataset.privacy_unit for dataset in there}
        if len(units) > 1:
            found.append(
                f"{place}, keys: rows are about a {', about a '.join(sorted(units))}; in all data sets of an "
                "alignment they are about the same"
            )
        if len({len(key) for key in one.keys.values()}) > 1:
            counts = ", ".join(f"{name} {len(key)}" for name, key in one.keys.items())
            found.append(f"{place}, keys: they have different numbers of columns ({counts})")
        for name, key in one.keys.items():
            found += _key(f"{place}, keys, {name}", known.get(name), [part.column for part in key])
    return found


def _key(place: str, dataset: Dataset | None, key: list[str]) -> list[str]:
    if dataset is None:
        return [f"{place}: there is no such data set; add it to the datasets"]
    found = _twice(place, "column", key)
    types = {column.name: column.type for column in dataset.columns}
    for column in key:
        if column not in types:
            found.append(f"{place}: the data set has no column {column!r}; it has {shown([*types])}")
        elif types[column] != "identifier":
            found.append(f"{place}: column {column!r} is a {types[column]}; a key has identifiers only")
    return found


def _privacy(privacy: Privacy, members: list[Member], datasets: list[Dataset]) -> list[str]:
    found = []
    if privacy.mechanism == "none":
        if not privacy.unnoised:
            found.append(
                'privacy: mechanism = "none" and unnoised = false, so nothing can ever be released; '
                "set one of the two"
            )
        found += [
            f"data set {dataset.name}: a budget without a mechanism; set privacy.mechanism or remove it"
            for dataset in datasets
            if dataset.budget is not None
        ]
    elif not privacy.unnoised:
        found += [
            f"data set {dataset.name}: nothing can be released from it without a budget; write one"
            for dataset in datasets
            if dataset.budget is None
        ]
    if privacy.rounding is not None and not privacy.unnoised:
        found.append(
            f"privacy: rounding = {privacy.rounding} is for what is released without noise, and unnoised = "
            "false; remove one of the two"
        )
    computing = sum("compute" in member.roles for member in members)
    if privacy.collusion is not None and privacy.collusion >= computing > 1:
        found.append(
            f"privacy: collusion = {privacy.collusion}: of {computing} computing members at most "
            f"{computing - 1} can collude against another"
        )
    return found


def _role(place: str, names: list[str], role: str, members: list[Member]) -> list[str]:
    roles = {member.name: member.roles for member in members}
    found = _twice(place, "member", names)
    for name in names:
        if name not in roles:
            found.append(f"{place}: {name} is no member; the members are {', '.join(roles)}")
        elif role not in roles[name]:
            found.append(f"{place}: {name} has not the role {role}; add it to the member's roles")
    return found


def _twice(place: str, what: str, names: Iterable[str]) -> list[str]:
    return [
        f"{place}: {what} {shown(name)} stands there {count} times; each may stand there once"
        for name, count in Counter(names).items()
        if count > 1
    ]


_RULES: Final[tuple[tuple[tuple[str, ...], Callable[..., list[str]]], ...]] = (
    (("valid_from", "valid_until"), _validity),
    (("purposes",), _purposes),
    (("members",), _members),
    (("datasets", "members"), _datasets),
    (("analyses", "purposes", "datasets", "members"), _analyses),
    (("alignments", "datasets"), _alignments),
    (("privacy", "members", "datasets"), _privacy),
)

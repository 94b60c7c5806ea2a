"""An agreement as an ODRL policy (W3C ODRL Information Model 2.2), and back.

Connectors of data spaces speak ODRL. What it has words for is said in them: each analysis on each data set is
a permission from the owner to the submitters, constrained by purpose, time, recipients and count, with
duties to ask for consent and to delete. What it has no words for (keys, roles, columns, alignments,
code, parameters, mechanisms) is said in the profile `urn:mpcpriv:odrl:1`; a processor that does not know the
profile must not go on (ODRL 2.2, on `profile`). Nothing is lost, so the policy leads back to the very
agreement that was signed.

A policy is read only in the form that is written here. A policy that says one thing in ODRL's words and
another in the profile's would otherwise mean two things.
"""

from __future__ import annotations

import json
from typing import Any, Final

from pydantic import ValidationError

from mpcpriv.agreement.model import Agreement
from mpcpriv.documents import MAX_BYTES, listed, problems
from mpcpriv.errors import UsageError
from mpcpriv.types import PartyId

PROFILE: Final = "urn:mpcpriv:odrl:1"
CONTEXT: Final = [
    "http://www.w3.org/ns/odrl.jsonld",
    {
        "mpcpriv": f"{PROFILE}#",
        "xsd": "http://www.w3.org/2001/XMLSchema#",
        "mpcpriv:terms": {"@type": "@json"},
    },
]

_Json = dict[str, Any]


def to_odrl(agreement: Agreement) -> _Json:
    """The agreement as a policy of type Agreement, in JSON-LD."""
    content = json.loads(agreement.canonical())
    return {
        "@context": CONTEXT,
        "@type": "Agreement",
        "uid": f"urn:mpcpriv:agreement:{agreement.id}:{agreement.version}",
        "profile": PROFILE,
        "permission": [
            _permission(content, terms, dataset)
            for terms in content["analyses"]
            for dataset in terms["inputs"]
        ],
        "obligation": [
            {
                "assignee": _party(member["name"]),
                "action": "delete",
                "constraint": [
                    _constraint("elapsedTime", "lteq", _duration(content["retention_days"])),
                ],
            }
            for member in content["members"]
        ],
        "mpcpriv:terms": {
            **{name: content[name] for name in _PROFILE_TERMS if name in content},
            # An analysis is spread over its permissions; this keeps their order, and what ODRL lacks.
            "analyses": [
                {name: terms[name] for name in ("name", "code", "parameters")}
                for terms in content["analyses"]
            ],
        },
    }


_PROFILE_TERMS: Final = ("title", "text", "purposes", "members", "datasets", "alignments", "privacy")


def _permission(content: _Json, terms: _Json, dataset: str) -> _Json:
    (owner,) = (one["owner"] for one in content["datasets"] if one["name"] == dataset)
    constraints = [
        _constraint("purpose", "isAnyOf", terms["purposes"]),
        _constraint("dateTime", "gteq", _time(content["valid_from"])),
        _constraint("dateTime", "lt", _time(content["valid_until"])),
        _constraint("recipient", "isAnyOf", list(map(_party, terms["recipients"]))),
    ]
    if "releases" in content["privacy"]:
        constraints.append(_constraint("count", "lteq", content["privacy"]["releases"]))
    permission: _Json = {
        "assigner": _party(owner),
        "assignee": list(map(_party, terms["submitters"])),
        "target": {
            "@type": "Asset",
            "uid": f"urn:mpcpriv:dataset:{dataset}",
            "refinement": [_constraint("mpcpriv:column", "isAnyOf", terms["inputs"][dataset])],
        },
        "action": [
            {
                "rdf:value": {"@id": "mpcpriv:compute"},
                "refinement": [
                    _constraint("mpcpriv:analysis", "eq", terms["name"]),
                    _constraint("mpcpriv:code", "eq", terms["code"]),
                ],
            }
        ],
        "constraint": constraints,
    }
    if content["approval"] == "steward":
        permission["duty"] = [{"action": "obtainConsent", "consentingParty": _party(owner)}]
    return permission


def from_odrl(policy: object) -> Agreement:
    """The agreement of which this is the policy.

    Args:
        policy: JSON-LD, parsed.

    Raises:
        UsageError: not such a policy, the agreement in it is none, or its parts contradict each other.
    """
    try:
        content = _content(policy)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        raise UsageError(
            f"ODRL policy: not of profile {PROFILE}; export one with "
            "`mpcpriv agreement export --odrl` to see its form"
        ) from None
    try:
        agreement = Agreement.model_validate_json(json.dumps(content))
        same = _exactly(to_odrl(agreement)) == _exactly(policy)
    except ValidationError as error:
        raise UsageError(f"ODRL policy: {listed(problems(error))}") from None
    except (TypeError, ValueError, RecursionError):
        raise UsageError(
            "ODRL policy: it holds what JSON has no place for, or is nested too deeply"
        ) from None
    if not same:
        raise UsageError(
            "ODRL policy: its permissions, obligations and mpcpriv:terms do not say the same, or it says "
            "more than an agreement holds; export the agreement anew"
        )
    return agreement


def _content(policy: Any) -> _Json:
    """The agreement's fields from where `to_odrl` writes them; the rest is found by comparing."""
    said = policy["mpcpriv:terms"]
    identity, version = policy["uid"].removeprefix("urn:mpcpriv:agreement:").split(":")
    permissions: dict[str, list[Any]] = {}
    for permission in policy["permission"]:
        name = permission["action"][0]["refinement"][0]["rightOperand"]
        permissions.setdefault(name, []).append(permission)
    analyses = []
    for terms in said["analyses"]:
        own = permissions[terms["name"]]
        constraints = own[0]["constraint"]
        analyses.append(
            {
                **terms,
                "purposes": constraints[0]["rightOperand"],
                "recipients": [_name(one) for one in constraints[3]["rightOperand"]],
                "submitters": [_name(one) for one in own[0]["assignee"]],
                "inputs": {
                    one["target"]["uid"].removeprefix("urn:mpcpriv:dataset:"): one["target"]["refinement"][0][
                        "rightOperand"
                    ]
                    for one in own
                },
            }
        )
    first = policy["permission"][0]
    kept = policy["obligation"][0]["constraint"][0]["rightOperand"]["@value"]
    return {
        **{name: said[name] for name in _PROFILE_TERMS if name in said},
        "id": identity,
        "version": int(version),
        "valid_from": first["constraint"][1]["rightOperand"]["@value"],
        "valid_until": first["constraint"][2]["rightOperand"]["@value"],
        "analyses": analyses,
        "approval": "steward" if "duty" in first else "automatic",
        "retention_days": int(kept.removeprefix("P").removesuffix("D")),
    }


def encode_odrl(agreement: Agreement) -> bytes:
    """The policy as JSON text, indented, UTF-8."""
    return (json.dumps(to_odrl(agreement), indent=2, ensure_ascii=False) + "\n").encode()


def decode_odrl(data: bytes) -> Agreement:
    """The agreement from a policy's JSON text; see `from_odrl`.

    Raises:
        UsageError: not JSON, or see `from_odrl`.
    """
    if len(data) > MAX_BYTES:
        raise UsageError(f"ODRL policy: longer than {MAX_BYTES >> 20} MiB, which none is")
    try:
        policy = json.loads(data.decode(), object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise UsageError("ODRL policy: not JSON in UTF-8 with each name once") from None
    return from_odrl(policy)


def _once(pairs: list[tuple[str, Any]]) -> _Json:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError
    return found


def _exactly(value: object) -> str:
    """What two policies have in common that say the same: the order of names is of no account, types are."""
    return json.dumps(value, sort_keys=True)


def _constraint(left: str, operator: str, right: object) -> _Json:
    return {"leftOperand": left, "operator": operator, "rightOperand": right}


def _time(text: str) -> _Json:
    return {"@value": text, "@type": "xsd:dateTime"}


def _duration(days: int) -> _Json:
    return {"@value": f"P{days}D", "@type": "xsd:duration"}


def _party(name: str) -> str:
    return PartyId(name).uri


def _name(uri: str) -> str:
    return uri.removeprefix("spiffe://mpcpriv/")

"""What is wrong with a configuration file, in one line."""

from __future__ import annotations

from typing import Final

from pydantic import ValidationError

_SHOWN: Final = 60


def first_problem(error: ValidationError) -> str:
    """The first thing that `error` found: the field, its value and the rule, or what to do about it."""
    first = error.errors(include_url=False, include_context=False)[0]
    return f"{_field(first['loc'])}: {_rule(first['type'], first['msg'], first['input'])}"


def _field(location: tuple[int | str, ...]) -> str:
    """`('party', 0, 'name')` as `party[0].name`."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def _rule(kind: str, message: str, value: object) -> str:
    if kind == "missing":
        return "missing; write it into the file"
    if kind == "extra_forbidden":
        return "no such field; check its spelling or remove it"
    shown = repr(value)
    if len(shown) > _SHOWN:
        shown = f"{shown[:_SHOWN]}..."
    return f"{shown}: {message[0].lower()}{message[1:]}"

"""Agreements as TOML files, which people write and read. What is signed is the content, not the file."""

from __future__ import annotations

import contextlib
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from mpcpriv.agreement import consistency
from mpcpriv.agreement.model import Agreement
from mpcpriv.documents import listed, parse_toml, problems, read_file, write_new
from mpcpriv.errors import UsageError


def parse_agreement(data: bytes) -> Agreement:
    """An agreement from TOML.

    Raises:
        UsageError: not TOML, or not an agreement; the message lists all that is wrong.
    """
    content = parse_toml(data, Agreement.noun)
    try:
        return Agreement.model_validate(content)
    except ValidationError as error:
        found = problems(error)
        # Rules between the parts run in the model only once all parts are right in themselves. Here people
        # mend a file, so the rules between those parts that are right are tried all the same.
        found += [problem for problem in consistency.of_agreement(_parts(content)) if problem not in found]
        raise UsageError(f"agreement: {listed(found)}") from None


def _parts(content: dict[str, Any]) -> dict[str, Any]:
    """The fields that are right in themselves."""
    parts = {}
    for name, rule in _rules().items():
        if name in content:
            with contextlib.suppress(ValidationError):
                parts[name] = rule.validate_python(content[name], strict=True)
    return parts


@cache
def _rules() -> dict[str, TypeAdapter[Any]]:
    kind: Any = Annotated
    return {
        name: TypeAdapter(kind[field.annotation, field]) for name, field in Agreement.model_fields.items()
    }


def read_agreement(path: Path) -> Agreement:
    """An agreement from a TOML file.

    Raises:
        UsageError: the file cannot be read or is no agreement; the message lists all that is wrong.
    """
    data = read_file(path, "agreement")
    try:
        return parse_agreement(data)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def write_agreement(agreement: Agreement, path: Path) -> None:
    """Writes an agreement to a new TOML file.

    Raises:
        UsageError: the file is there already, or cannot be written.
    """
    write_new(path, agreement.to_toml())

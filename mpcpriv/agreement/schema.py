"""The JSON Schema of agreements, for editors and other programs."""

from __future__ import annotations

from typing import Any, Final

from mpcpriv.agreement.model import Agreement

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """What an agreement's JSON form looks like. Rules between its parts are `mpcpriv agreement check`'s."""
    return {
        "$schema": DIALECT,
        "$id": "urn:mpcpriv:schema:agreement:1",
        **Agreement.model_json_schema(),
    }

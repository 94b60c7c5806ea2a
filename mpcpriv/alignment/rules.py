"""How identifiers are written alike before they are compared: small rules with names, applied in order.

An agreement names the rules of each column of a key. Each rule is a pure function of text and changes
nothing when it is applied twice. What one owner spells differently from another beyond these rules does not
match, and nobody is told.
"""

from __future__ import annotations

import datetime
import re
import unicodedata
from collections.abc import Callable, Iterable
from typing import Final

from mpcpriv.errors import UsageError

Rule = Callable[[str], str]
"""May raise ValueError where a text is nothing that the rule is for."""


def nfkc(text: str) -> str:
    """One code for characters that mean the same (Unicode NFKC): full-width digits, ligatures, accents."""
    return unicodedata.normalize("NFKC", text)


def casefold(text: str) -> str:
    """Without the difference of capitals, in all scripts (Unicode's full case folding)."""
    return text.casefold()


def trim(text: str) -> str:
    """Without white space at both ends."""
    return text.strip()


def single_spaces(text: str) -> str:
    """One blank in the place of each run of white space, and none at the ends."""
    return " ".join(text.split())


def no_spaces(text: str) -> str:
    """Without any white space."""
    return "".join(text.split())


def no_punctuation(text: str) -> str:
    """Without punctuation and symbols (Unicode's classes P and S): hyphens, dots, slashes, apostrophes."""
    return "".join(c for c in text if unicodedata.category(c)[0] not in "PS")


def no_diacritics(text: str) -> str:
    """Without accents and other marks (class Mn, after decomposition): é becomes e. ø and ł have none."""
    kept = (c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")
    return unicodedata.normalize("NFC", "".join(kept))


def digits(text: str) -> str:
    """The decimal digits alone, as 0 to 9."""
    return "".join(str(unicodedata.decimal(c)) for c in text if c.isdecimal())


def no_leading_zeros(text: str) -> str:
    """Without zeros in front; of zeros alone one stays."""
    return text.lstrip("0") or text[:1]


def _date(order: str) -> Rule:
    places = {part: order.index(part) for part in "ymd"}

    def rule(text: str) -> str:
        # What is a date already stays, so that the rule may be applied twice.
        if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            return datetime.date.fromisoformat(text).isoformat()
        parts = re.fullmatch(r"([0-9]{1,4})[-./ ]([0-9]{1,2})[-./ ]([0-9]{1,4})", text)
        if parts is None or len(parts[places["y"] + 1]) != 4:
            raise ValueError("no date")
        year, month, day = (int(parts[places[part] + 1]) for part in "ymd")
        return datetime.date(year, month, day).isoformat()

    rule.__doc__ = (
        f"A date written as {', '.join({'y': 'year', 'm': 'month', 'd': 'day'}[part] for part in order)}, "
        "with '-', '.', '/' or a blank between, the year in four digits; or as 2001-12-31."
    )
    return rule


RULES: Final[dict[str, Rule]] = {
    "nfkc": nfkc,
    "casefold": casefold,
    "trim": trim,
    "single-spaces": single_spaces,
    "no-spaces": no_spaces,
    "no-punctuation": no_punctuation,
    "no-diacritics": no_diacritics,
    "digits": digits,
    "no-leading-zeros": no_leading_zeros,
    "date-ymd": _date("ymd"),
    "date-dmy": _date("dmy"),
    "date-mdy": _date("mdy"),
}
"""By the name that an agreement uses."""


def compose(names: Iterable[str]) -> Rule:
    """The rules of these names, the first one first.

    Raises:
        UsageError: there is no rule of that name.
    """
    names = tuple(names)
    for name in names:
        if name not in RULES:
            raise UsageError(f"normalisation rule {name!r}: unknown; there are {', '.join(RULES)}")
    chosen = [RULES[name] for name in names]

    def rule(text: str) -> str:
        for step in chosen:
            text = step(text)
        return text

    return rule

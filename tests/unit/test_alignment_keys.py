"""Keys are written alike by named rules, and refused by counting rows where they are no keys."""

from __future__ import annotations

import datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcpriv.alignment import RULES, Identifiers, KeyColumn, identify
from mpcpriv.alignment.rules import compose
from mpcpriv.errors import UsageError

EXAMPLES = {
    "nfkc": [("\uff11\uff12\uff21", "12A"), ("ﬁn", "fin"), ("e\u0301", "é")],
    "casefold": [("Straße", "strasse"), ("ΣΊΣΥΦΟΣ", "σίσυφοσ")],
    "trim": [(" \ta b\u00a0\n", "a b")],
    "single-spaces": [("  a \t b\u3000c ", "a b c")],
    "no-spaces": [(" a \u00a0b ", "ab")],
    "no-punctuation": [("O'Neill-Smith, Jr.", "ONeillSmith Jr"), ("+41 (0)44", "41 044"), ("a\u2013b", "ab")],
    "no-diacritics": [("Zoë Çelik Ångström", "Zoe Celik Angstrom"), ("Łódź", "Łodz")],
    "digits": [("756.1234.5678.97", "7561234567897"), ("٣x٤", "34")],
    "no-leading-zeros": [("00120", "120"), ("000", "0"), ("0", "0"), ("", "")],
    "date-ymd": [("2001/2/3", "2001-02-03"), ("2001-02-03", "2001-02-03")],
    "date-dmy": [("3.2.2001", "2001-02-03"), ("2001-02-03", "2001-02-03"), ("31-12-1999", "1999-12-31")],
    "date-mdy": [("2/3/2001", "2001-02-03")],
}


@pytest.mark.parametrize("name", RULES)
def test_each_rule_does_what_it_says(name: str) -> None:
    for text, expected in EXAMPLES[name]:
        assert RULES[name](text) == expected
    assert RULES[name].__doc__


@pytest.mark.parametrize("name", RULES)
@given(text=st.text(max_size=20) | st.dates().map(lambda d: f"{d.day}.{d.month}.{d.year:04}"))
@settings(max_examples=100, deadline=None)
def test_a_rule_applied_twice_is_the_rule_applied_once(name: str, text: str) -> None:
    rule = RULES[name]
    try:
        once = rule(text)
    except ValueError:
        return
    assert rule(once) == once


@pytest.mark.parametrize("text", ["2001-02-30", "3.2.01", "3.2", "x", "2001.2.3", "03.02.2001 ", "٣.2.2001"])
def test_what_is_no_date_has_no_date(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the message is nobody's
        RULES["date-dmy"](text)


def test_rules_are_applied_in_order() -> None:
    assert compose(("no-leading-zeros", "digits"))("A-007") == "007"
    assert compose(("digits", "no-leading-zeros"))("A-007") == "7"


def digest(*cells: object, rules: tuple[str, ...] = ()) -> bytes:
    return identify(*(KeyColumn([cell], rules) for cell in cells)).digests.tobytes()  # type: ignore[list-item]


def test_keys_are_equal_when_every_column_is() -> None:
    assert digest("Zoë ", "1", rules=("casefold", "trim")) == digest("zoë", 1, rules=("casefold", "trim"))
    assert digest("ab", "c") != digest("a", "bc")
    assert digest("a", "b") != digest("b", "a")
    assert digest("a") != digest("a", "a")
    assert digest(datetime.date(2001, 2, 3)) == digest("2001-02-03")
    assert digest("é") != digest("e\u0301")
    assert digest("é", rules=("nfkc",)) == digest("e\u0301", rules=("nfkc",))


def test_columns_may_be_arrays() -> None:
    numbers, texts = np.array([7, 8]), np.array(["a", "b"])
    found = identify(KeyColumn(numbers), KeyColumn(texts))
    assert found.digests.tobytes() == identify(KeyColumn(["7", "8"]), KeyColumn(["a", "b"])).digests.tobytes()
    assert len(found) == 2


def test_no_rows_are_no_keys_and_no_error() -> None:
    assert len(identify(KeyColumn([]))) == 0


SECRET = "Änne Müßig"


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ([], "at least one column"),
        ([KeyColumn(["a"]), KeyColumn(["a", "b"])], "1, 2 rows"),
        ([KeyColumn(["a"], ("trim", "upper"))], "'upper': unknown; there are nfkc, casefold"),
        ([KeyColumn(["a", None, "", SECRET])], "column 1 is missing, or empty once normalised, in 2 rows"),
        ([KeyColumn([1, 2]), KeyColumn([SECRET, " "], ("trim",))], "column 2 is missing, or empty"),
        ([KeyColumn([SECRET, ""], ("date-dmy",))], "missing, or empty once normalised, in 1 row, and not"),
        ([KeyColumn([SECRET, "1.1.2000"], ("date-dmy",))], "not what the rules date-dmy are for in 1 row"),
        ([KeyColumn([SECRET, "\ud800"])], "not what the rules (none) are for in 1 row"),
        ([KeyColumn([SECRET, 1.5, True])], "neither text, a whole number nor a date in 2 rows"),  # type: ignore[list-item]
        ([KeyColumn([datetime.datetime(2001, 2, 3)])], "neither text"),
        (
            [KeyColumn([SECRET, "a", SECRET.upper(), "b", SECRET], ("casefold",))],
            "3 of 5 rows share their key",
        ),
        ([KeyColumn(["a", "a", "b", "b", "c"])], "4 of 5 rows share their key"),
    ],
)
def test_what_is_no_key_is_refused_by_numbers_of_rows(columns: list[KeyColumn], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        identify(*columns)
    assert said in str(caught.value)
    for part in SECRET.split():
        assert part.casefold() not in str(caught.value).casefold()
        assert part.casefold() not in repr(caught.value.__context__).casefold()


def test_identifiers_do_not_print_their_digests() -> None:
    found = identify(KeyColumn(["a"]))
    assert isinstance(found, Identifiers)
    assert "digests" not in repr(found)

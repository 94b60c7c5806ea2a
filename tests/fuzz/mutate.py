"""Inputs near to valid ones, many thousands a second.

A `Text` edits bytes, and JSON also by its structure: the places of all values are found once, and one is
exchanged, doubled or left out by cutting bytes, so that most results are in canonical form and come far. A
`Message` edits the fields of a protobuf message, of which bytes alone would mostly break the lengths.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

Maker = Callable[[Random], bytes]

TOKENS = [
    *(b"", b"{", b"}", b"[", b"]", b"{}", b"[]", b'"', b'""', b",", b":", b"=", b"#", b"\n", b"\r\n", b" "),
    *(b"\\", b"\\u0000", b"\\ud800", b"\\udc00\\ud800", b"\\n", b"'''", b'"""', b"\t", b"-", b"=="),
    *(b"null", b"true", b"false", b"NaN", b"Infinity", b"inf", b"nan", b"0", b"-0", b"-0.0", b"1.0", b"-1"),
    *(b"1e999", b"1e20", b"1e-7", b"5e-324", b"9007199254740991", b"9007199254740993", b"9" * 30),
    *(b"9" * 5000, b"0x" + b"f" * 5000, b"0" * 400, b"18446744073709551616", b"2147483648"),
    *(b"\x00", b"\x7f", b"\x80", b"\xff", b"\xc3\xa9", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xf0\x9f\x98\x80"),
    *("\u202e".encode(), "e\u0301".encode(), "\u2028".encode(), "\uff11".encode(), "\uffff".encode()),
    *(b"2027-01-01", b"2027-01-01T00:00:00Z", b"9999-12-31T23:59:59Z", b"07:32:00", b"1979-05-27T07:32:00.9"),
    *(
        b"2027-01-01T00:00:00+00:00",
        b"0001-01-01T00:00:00Z",
        b"2027-02-30T00:00:00Z",
        b"2026-12-31T23:59:60Z",
    ),
    *(b"[" * 3000, b"a." * 3000, b'{"a":' * 3000, b"[[x]]\n", b"[x]\n", b"[x.y]\n", b"__class__", b"../../x"),
]
VALUES = [
    *(b"null", b"true", b"false", b"0", b"1", b"-1", b"2", b"0.5", b"-0.5", b"1e+300", b"5e-324", b"1e-7"),
    *(b"9007199254740991", b"9007199254740992", b"-9007199254740991", b"9007199254740993", b"1e999"),
    *(b'""', b'"a"', b'"alice"', b'"dealer"', b'"mean"', b'"number"', b'"A"', b'"a b"', b'"host:1"'),
    *(b'"\\u0000"', b'"\\ud800"', b'"\\u007f"', b'"\\n"', b'"\\r"', b'"\\"\\\\"'),
    *(
        '"é"'.encode(),
        '"\U0001f600"'.encode(),
        '"e\u0301"'.encode(),
        '"\u2028"'.encode(),
        '"\u0661"'.encode(),
    ),
    *(b'"' + b"x" * 3000 + b'"', b'"' + b"0" * 64 + b'"', b"1" * 400, b"1772366400", b'"1772366400"'),
    *(b'"2027-03-01T12:00:00Z"', b'"2027-03-01T12:00:00+00:00"', b'"9999-12-31T23:59:59Z"'),
    *(b'"0001-01-01T00:00:00Z"', b'"2027-03-01T12:00:00.5Z"', b'"2027-03-01"'),
    *(b"[]", b"{}", b"[[]]", b'{"":0}', b'{"a":{}}', b"[0]", b'["a"]', b"[null]", b"[true,1,0.5]"),
    *(b"[" * 100 + b"]" * 100, b"[" * 3000 + b"]" * 3000),
    *(b'{"a":' * 150 + b"0" + b"}" * 150, b"[0" + b",0" * 2000 + b"]"),
]
NUMBER = re.compile(rb"\d+")
NUMBERS = [
    *(0, 1, 2, -1, 7, 16, 31, 32, 63, 64, 127, 128, 255, 256, 1000, 65_535, 65_536, 1 << 20, 1 << 27),
    *((1 << 31) - 1, 1 << 31, -(1 << 31), (1 << 32) - 1, 1 << 32, (1 << 53) + 1, (1 << 63) - 1, 1 << 63),
    *(-(1 << 63), (1 << 64) - 1),
]
_SMALL = 300


@dataclass(frozen=True)
class Text:
    """Edits of some valid inputs.

    Attributes:
        valid: the inputs.
        structured: whether they are JSON.
    """

    valid: tuple[bytes, ...]
    structured: bool = False

    def __post_init__(self) -> None:
        spans = [_places(one) if self.structured else [] for one in self.valid]
        own = {
            one[s:e]
            for one, places in zip(self.valid, spans, strict=True)
            for s, e in places
            if e - s < _SMALL
        }
        object.__setattr__(self, "_spans", spans)
        object.__setattr__(self, "_values", [*VALUES, *sorted(own)])
        object.__setattr__(self, "_numbers", [[m.span() for m in NUMBER.finditer(one)] for one in self.valid])

    def __call__(self, chance: Random) -> bytes:
        which = chance.randrange(len(self.valid))
        roll = chance.random()
        if self.structured and roll < 0.6:
            return self._rebuilt(chance, which)
        if roll < 0.9:
            return self._edited(chance, which)
        if roll < 0.94:
            other = chance.choice(self.valid)
            return (
                self.valid[which][: chance.randrange(len(self.valid[which]) + 1)]
                + other[chance.randrange(len(other) + 1) :]
            )
        if roll < 0.98:
            return self.valid[which][: chance.randrange(len(self.valid[which]) + 1)]
        return chance.randbytes(chance.randrange(60))

    def _edited(self, chance: Random, which: int) -> bytes:
        data = self.valid[which]
        numbers = self._numbers[which]  # type: ignore[attr-defined]
        if numbers and chance.random() < 0.25:
            start, end = chance.choice(numbers)
            number = chance.choice(NUMBERS) if chance.random() < 0.7 else int(data[start:end][:18]) + 1
            data = data[:start] + str(number).encode() + data[end:]
        for _ in range(
            chance.choice((0, 1, 1, 1, 2, 3, 4))
            if data is not self.valid[which]
            else chance.choice((1, 1, 1, 2, 3, 4))
        ):
            start = chance.randrange(len(data) + 1)
            end = min(len(data), start + chance.choice((0, 0, 1, 1, 1, 2, 9, 100)))
            roll = chance.random()
            if roll < 0.3 and start < len(data):
                end = start + 1
                piece = bytes([data[start] ^ 1 << chance.randrange(8)])
            elif roll < 0.6:
                piece = chance.choice(TOKENS)
            elif roll < 0.7:
                piece = data[start:end] * 2
            elif roll < 0.8:
                piece = chance.randbytes(chance.randrange(4))
            elif roll < 0.9:
                piece = b""
            else:
                there = chance.randrange(len(data) + 1)
                piece = data[there : there + chance.choice((1, 4, 40))]
            data = data[:start] + piece + data[end:]
        return data

    def _rebuilt(self, chance: Random, which: int) -> bytes:
        data = self.valid[which]
        places = self._spans[which]  # type: ignore[attr-defined]
        before = len(data)
        for start, end in sorted(
            (chance.choice(places) for _ in range(chance.choice((1, 1, 1, 2, 3)))), reverse=True
        ):
            if end > before:
                continue  # inside or around what was changed already
            before = start
            roll = chance.random()
            if roll < 0.6:
                data = data[:start] + chance.choice(self._values) + data[end:]  # type: ignore[attr-defined]
            elif roll < 0.7:
                data = data[:start] + data[start:end] + b"," + data[start:end] + data[end:]
            elif roll < 0.8:
                data = data[:start] + chance.choice(self._values) + b"," + data[start:]  # type: ignore[attr-defined]
            else:
                data = _without(data, start, end)
        return data


def _places(data: bytes) -> list[tuple[int, int]]:
    """Where the values of a JSON text stand; not the names."""
    text = data.decode("latin-1")  # a character for each byte
    scan = json.JSONDecoder(strict=False).raw_decode
    found, at = [], 0
    while at < len(text):
        if text[at] in "{}[],:":
            at += 1
            continue
        end = scan(text, at)[1]
        if text[end : end + 1] != ":":
            found.append((at, end))
        at = end
    nested = []
    for at, letter in enumerate(text):
        if letter in "[{":
            try:
                nested.append((at, scan(text, at)[1]))
            except ValueError:  # a bracket in a string
                continue
    return sorted({*found, *nested})


def _without(data: bytes, start: int, end: int) -> bytes:
    """The text without an element, or without a value and its name."""
    if data[start - 1 : start] == b":":
        start = data.rfind(b'"', 0, start - 2)
    if data[end : end + 1] == b",":
        end += 1
    elif data[start - 1 : start] == b",":
        start -= 1
    return data[:start] + data[end:]


@dataclass(frozen=True)
class Message:
    """Edits of some valid protobuf messages."""

    valid: tuple[Any, ...]

    def __post_init__(self) -> None:
        encoded = tuple(one.SerializeToString(deterministic=True) for one in self.valid)
        object.__setattr__(self, "_text", Text(encoded))

    def __call__(self, chance: Random) -> bytes:
        if chance.random() < 0.4:
            return self._text(chance)  # type: ignore[attr-defined, no-any-return]
        message = type(chosen := chance.choice(self.valid))()
        message.CopyFrom(chosen)
        for _ in range(chance.choice((1, 1, 2, 3))):
            _change(chance, message)
        data: bytes = message.SerializeToString(deterministic=True)
        return data


def _change(chance: Random, message: Any) -> None:
    """Changes one field of the message or of one inside it."""
    while True:
        field = chance.choice(message.DESCRIPTOR.fields) if message.DESCRIPTOR.fields else None
        if field is None:
            return
        repeated = field.is_repeated
        if field.message_type is None:
            break
        if repeated:
            held = getattr(message, field.name)
            if not held or chance.random() < 0.3:
                held.add() if not held or chance.random() < 0.5 else held.add().CopyFrom(
                    chance.choice(list(held))
                )
                if chance.random() < 0.2:
                    del held[chance.randrange(len(held))]
                return
            message = chance.choice(list(held))
        elif chance.random() < 0.15:
            message.ClearField(field.name)
            return
        else:
            message = getattr(message, field.name)
            message.SetInParent()
    if repeated:
        held = getattr(message, field.name)
        roll = chance.random()
        if held and roll < 0.3:
            del held[chance.randrange(len(held))]
        elif held and roll < 0.6:
            place = chance.randrange(len(held))
            held[place] = _scalar(chance, field, held[place])
        else:
            held.extend([_scalar(chance, field, held[0] if held else None)] * chance.choice((1, 1, 2, 40)))
    else:
        setattr(message, field.name, _scalar(chance, field, getattr(message, field.name)))


def _scalar(chance: Random, field: Any, old: Any) -> Any:
    match field.cpp_type:
        case field.CPPTYPE_STRING if field.type == field.TYPE_BYTES:
            data = old or b""
            return Text((data,))(chance) if data and chance.random() < 0.7 else chance.choice(TOKENS)
        case field.CPPTYPE_STRING:
            data = chance.choice(
                ((old or "").encode() and [Text(((old or "").encode(),))(chance), *TOKENS[:40]]) or TOKENS
            )
            return data.decode(errors="ignore")
        case field.CPPTYPE_BOOL:
            return chance.random() < 0.5
        case field.CPPTYPE_DOUBLE | field.CPPTYPE_FLOAT:
            return chance.choice((0.0, -0.0, 0.5, float("nan"), float("inf"), -1e300, 5e-324))
        case field.CPPTYPE_ENUM:
            return chance.randrange(-1, 20)
    bits = 32 if field.cpp_type in (field.CPPTYPE_INT32, field.CPPTYPE_UINT32) else 64
    signed = field.cpp_type in (field.CPPTYPE_INT32, field.CPPTYPE_INT64)
    number = chance.choice(NUMBERS) if chance.random() < 0.6 else (old or 0) + chance.choice((-1, 1))
    number %= 1 << bits
    return number - (1 << bits) if signed and number >= 1 << (bits - 1) else number


def choice(*makers: Maker) -> Maker:
    """One of them each time."""
    return lambda chance: chance.choice(makers)(chance)


def texts(valid: Sequence[bytes], *, structured: bool = False) -> Text:
    """Edits of these."""
    return Text(tuple(valid), structured)

"""Lines of several processes on one terminal."""

from __future__ import annotations

import io

import pytest

from mpcpriv.party import output
from mpcpriv.party.output import Prefixed


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(*chunks: bytes, width: int = 5) -> list[str]:
    target = io.StringIO()
    lines = Prefixed("bob", width, 1, target)
    for chunk in chunks:
        lines.feed(chunk)
    lines.flush()
    return target.getvalue().splitlines()


def test_every_line_has_its_writer() -> None:
    assert shown(b"one\ntwo\n") == ["bob   | one", "bob   | two"]


def test_a_line_is_written_once_it_is_whole() -> None:
    target = io.StringIO()
    lines = Prefixed("bob", 3, 1, target)
    lines.feed(b"on")
    assert target.getvalue() == ""
    lines.feed(b"e\ntw")
    assert target.getvalue() == "bob | one\n"


def test_the_last_line_needs_no_end() -> None:
    assert shown(b"one\ntwo") == ["bob   | one", "bob   | two"]


def test_empty_lines_stay() -> None:
    assert shown(b"one\n\ntwo\n") == ["bob   | one", "bob   | ", "bob   | two"]


def test_characters_may_be_cut_anywhere() -> None:
    text = "Zürich €\n".encode()
    assert shown(*(text[i : i + 1] for i in range(len(text)))) == ["bob   | Zürich €"]


def test_bytes_that_are_no_text_do_not_stop_the_show() -> None:
    assert shown(b"\xff\xfe\n") == ["bob   | \ufffd\ufffd"]


def test_of_a_progress_bar_the_latest_state_is_shown() -> None:
    assert shown(b"\r 10%", b"\r 50%", b"\r100%\ndone\n") == ["bob   | 100%", "bob   | done"]


def test_windows_line_ends_are_line_ends() -> None:
    assert shown(b"one\r\ntwo\r\n") == ["bob   | one", "bob   | two"]


def test_what_stands_unfinished_is_shown_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(output.time, "monotonic", lambda: now)
    target = io.StringIO()
    lines = Prefixed("bob", 3, 1, target)
    lines.feed(b"\r 10%")
    lines.tick()
    assert target.getvalue() == ""
    now += output.PATIENCE + 0.1
    lines.feed(b"\r 20%")
    lines.tick()
    assert target.getvalue() == "bob |  20%\n"
    lines.feed(b"\n")
    assert target.getvalue() == "bob |  20%\n", "the end of a line that was shown is no line of its own"


def test_colours_are_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    Prefixed("bob", 3, 1, terminal).feed(b"one\n\x1b[31mred\n")
    first, second = terminal.getvalue().splitlines()
    assert first == "\x1b[33mbob |\x1b[0m one"
    assert second.endswith("red\x1b[0m"), "a colour that a line leaves on does not run into the next"
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Terminal()
    Prefixed("bob", 3, 1, plain).feed(b"one\n")
    assert plain.getvalue() == "bob | one\n"

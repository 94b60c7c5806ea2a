"""How the client draws a job: in words, on a terminal, in a notebook."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from mpcpriv.client.show import Display, drawn, html
from mpcpriv.client.view import Loop, Part, View
from tests.unit.agreements import job

VIEW = View(
    id="3f2a91c0" + "0" * 56,
    job=job(),
    state="running",
    pending=False,
    started=True,
    result=False,
    parts=(
        Part("alice", "accept", (), ready=True, outcome="", failure=""),
        Part("bob", "accept", (), ready=False, outcome="", failure=""),
        Part("carol", "", (), ready=False, outcome="", failure=""),
    ),
    progress=(Loop("training", 3, 8), Loop("inverting", 1, 4)),
)
REFUSED = replace(
    VIEW,
    state="refused",
    progress=(),
    parts=(
        Part("alice", "refuse", ("purpose: no", "<script>alert(1)</script>"), False, "", ""),
        Part("bob", "refuse", ("purpose: no",), False, "", ""),
        Part("carol", "", (), False, "", ""),
    ),
)


def test_a_line_says_the_state_and_why() -> None:
    assert str(VIEW) == "3f2a91c0 logistic-regression: running, training 3/8, inverting 1/4"
    assert str(replace(VIEW, state="proposed", progress=())).endswith("proposed, waiting for carol")
    assert str(REFUSED).splitlines()[1:] == [
        "  alice, bob: purpose: no",
        "  alice: <script>alert(1)</script>",
    ]
    assert [part.word for part in VIEW.parts] == ["runs", "accepts", "has not decided"]


def test_a_terminal_shows_members_and_loops() -> None:
    console = Console(width=80, record=True, file=None, force_terminal=True, quiet=False)
    with console.capture() as captured:
        console.print(drawn(VIEW))
        console.print(drawn(REFUSED))
    text = captured.get()
    for word in ("training", "3 of 8", "inverting", "1 of 4", "runs", "has not decided", "purpose: no"):
        assert word in text


def test_a_notebook_escapes_what_others_wrote() -> None:
    page = html(REFUSED)
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "<progress max='8' value='3'>" in html(VIEW)


def test_a_notebook_updates_one_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []

    class ZMQInteractiveShell:
        pass

    cell = SimpleNamespace(update=lambda content, raw: shown.append(("update", content["text/plain"])))

    def display(content: dict[str, str], *, raw: bool, display_id: bool) -> Any:
        shown.append(("display", content["text/plain"]))
        return cell

    shell, page = ModuleType("IPython"), ModuleType("IPython.display")
    monkeypatch.setattr(shell, "get_ipython", ZMQInteractiveShell, raising=False)
    monkeypatch.setattr(page, "display", display, raising=False)
    monkeypatch.setitem(sys.modules, "IPython", shell)
    monkeypatch.setitem(sys.modules, "IPython.display", page)
    with Display(shown=True) as notebook:
        notebook.show(VIEW)
        notebook.show(REFUSED)
    with Display(shown=False) as nothing:
        nothing.show(VIEW)
    assert shown == [("display", str(VIEW)), ("update", str(REFUSED))]


def test_where_nothing_can_be_drawn_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    with Display(shown=True) as display:
        display.show(VIEW)
    assert capfd.readouterr() == ("", "")

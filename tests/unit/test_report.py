"""A result as text, files, plots, HTML and PDF: right, the same each time, and obeying nothing in it."""

from __future__ import annotations

import builtins
import csv
import hashlib
import io
import json
import re
import sys
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow.parquet as pq
import pytest
from matplotlib.axes import Axes
from typer.testing import CliRunner

from mpcpriv.analyses.shown import Bars, Forest, Histogram, Line, Lines, Shown, Table
from mpcpriv.cli.job import commands
from mpcpriv.client.result import Result
from mpcpriv.errors import UsageError
from mpcpriv.job.model import Job
from mpcpriv.report import Report, numbers
from mpcpriv.report.display import default, tables
from mpcpriv.report.export import write_csv, write_parquet
from mpcpriv.report.plots import LEFT_OUT, described, draw
from mpcpriv.report.text import table_text

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
HOSTILE = '<script>alert(1)</script>"&\x1b[31m\u202e$x_{$'
"""A name that tries HTML, a terminal's escapes, the other direction, and a formula of TeX."""
INF, NAN = float("inf"), float("nan")
COVARIANCE = {
    "rows": 300,
    "columns": ["age", HOSTILE],
    "mean": [51.25, 24],
    "covariance": [144, 12.5, 12.5, 16],
    "correlation": [1, 0.2604, 0.2604, 1],
}


def job(analysis: str = "covariance", **changes: Any) -> Job:
    content: dict[str, Any] = {
        "agreement": "study",
        "version": 2,
        "analysis": analysis,
        "purpose": "research",
        "inputs": [{"dataset": "north", "columns": ["age", "bmi"]}],
        "release": {"recipients": ["alice"]},
        "submitter": "alice",
        "created": NOW,
        "expires": NOW + timedelta(days=1),
        "nonce": "0" * 32,
        **changes,
    }
    return Job.model_validate(content)


def document(asked: Job, answer: dict[str, Any], **statement: Any) -> dict[str, Any]:
    return {
        "job": asked.digest(),
        "result": answer,
        "salt": "5a" * 32,
        "statement": {
            "text": "covariance: released to alice without noise",
            "more": "what the result tells of the others' rows is not bounded",
            "rows": {"north": 300},
            "agreement": {"title": HOSTILE, "digest": "ab" * 32},
            "code": "cd" * 32,
            **statement,
        },
    }


def report(analysis: str = "covariance", answer: dict[str, Any] | None = None, **statement: Any) -> Report:
    asked = job(analysis)
    return Report.of(asked, document(asked, answer or COVARIANCE, **statement))


ENDLESS: list[Shown] = [
    Table("Odds", {"": ["age", "b", "c"], "odds": [0.5, INF, NAN], "P>|z|": [0.5, 1e-9, NAN]}),
    Histogram("Ages", "years", [0, 10, 20, INF], [3, INF, NAN]),
    Bars("Means", ["a", "b", "c"], [3, NAN, -INF], [0.5, INF, NAN]),
    Bars("Nothing", ["a", "b"], [NAN, INF]),
    Lines("Survival", "w", "s", [Line("a", [0, 5, INF], [1, NAN, 0.7], [1, -INF, 0.5], [1, 0.95, INF])]),
    Forest("Odds", "odds ratio", ["a", "b", "c"], [1.1, NAN, INF], [0.9, -INF, 1], [INF, NAN, INF]),
    Forest("Odds", "odds ratio", ["a", "b"], [1.1, 2], [1, 1], [2, 3], INF, [NAN, INF]),
]


class Page(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.words = ""
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in ("meta", "img", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


PLOTS: list[Shown] = [
    Histogram("Ages", "years", [0, 10, 20, 50], [3, 8, 1]),
    Bars(HOSTILE, ["a", HOSTILE], [3, 4.5], [0.5, 1]),
    Lines(
        "Survival",
        "weeks",
        "survival",
        [
            Line("_with aid", [0, 5, 9], [1, 0.9, 0.7], [1, 0.8, 0.5], [1, 0.95, 0.8]),
            Line(HOSTILE, [0, 5], [1, 0.5]),
        ],
        steps=True,
    ),
    Forest("Odds", "odds ratio", ["age", HOSTILE * 3], [1.1, 0.5], [0.9, 0.3], [1.3, 0.8], 1.0, [2, 1]),
]


@pytest.mark.parametrize(
    ("heading", "cells", "printed"),
    [
        ("coef", [1.110517578125, 0.3128631591796875, 117.30172293526788], ["1.1105", "0.3129", "117.3017"]),
        ("rows", [3, 400], ["3", "400"]),
        ("mean", [3, 0.5, None], ["3.0000", "0.5000", ""]),
        ("x", [0.0, 0.0], ["0.0", "0.0"]),
        ("x", [123456.7, 0.00001234], ["123456.70", "1.234e-05"]),
        ("x", [2.5e12], ["2.500e+12"]),
        ("x", [-0.5, 0], ["-0.5000", "0.0000"]),
        (
            "P>|t|",
            [0.04321, 0.0004, 1.2e-7, 1e-20, 0, 1],
            ["0.043", "4.0e-04", "1.2e-07", *["<2e-16"] * 2, "1.000"],
        ),
        ("p-value", [0.5], ["0.500"]),
        ("people", [0.5], ["0.5000"]),
        ("", ["age", "bmi"], ["age", "bmi"]),
        ("x", [INF, -INF, NAN, 0.5, 3], ["infinite", "-infinite", "undefined", "0.5000", "3.0000"]),
        ("rows", [INF, 3], ["infinite", "3"]),
        ("P>|z|", [NAN, 0.04321], ["undefined", "0.043"]),
        ("x", [NAN], ["undefined"]),
    ],
)
def test_numbers_are_printed_as_statisticians_do(heading: str, cells: list[Any], printed: list[str]) -> None:
    assert numbers.column(heading, cells) == printed


def test_printed_numbers_are_the_numbers() -> None:
    """Three digits at least, whatever stands beside them."""
    generator = np.random.default_rng(0)
    for _ in range(300):
        cells = (generator.normal(size=4) * 10.0 ** generator.integers(-9, 12, size=4)).tolist()
        for cell, text in zip(cells, numbers.column("x", cells), strict=True):
            assert float(text) == pytest.approx(cell, rel=6e-3)


def test_a_table_is_aligned_and_fits() -> None:
    wide = Table("Wide", {"": ["age", "b"], **{f"column {n}": [n + 0.5, 10.25] for n in range(9)}}, ["Note."])
    lines = table_text(wide, 60).splitlines()
    assert lines[0] == "Wide"
    assert lines[-1] == "Note."
    assert max(map(len, lines)) <= 60
    rows = [line for line in lines if line.startswith("age")]
    assert len(rows) > 1  # in parts, each with its names
    assert [float(one) for one in re.findall(r"\d+\.\d+", " ".join(rows))] == [n + 0.5 for n in range(9)]
    narrow = table_text(Table("", {"": ["日本", "b"], "n": [1, 20]}))
    assert narrow.splitlines()[3:-1] == ["日本   1", "b     20"]


def test_text_obeys_nothing_in_it() -> None:
    text = report().text(80)
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "<script>" in text  # it is text
    assert "0.2604" in text
    assert "exact" in text


def test_html_is_self_contained_and_obeys_nothing() -> None:
    page = report().html()
    read = Page(page)
    assert read.open == []
    assert "script" not in read.tags
    assert "link" not in read.tags
    assert all(source.startswith("data:image/svg+xml;base64,") for source in read.sources)
    assert "<script>alert(1)</script>" in read.words
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert "http" not in page.replace("http-equiv", "")
    for said in (
        "study version 2",
        "research",
        "alice, 2026-05-01 12:00 UTC",
        "300",
        "ab" * 32,
        "cd" * 32,
        "0.2604",
    ):
        assert said in read.words
    assert "5a" * 32 not in page  # who is shown the report could find the result of its digest by trying
    assert page == report().html()


def test_a_noised_release_is_explained() -> None:
    privacy = {
        "mechanism": "discrete-gaussian",
        "epsilon": 0.5,
        "delta": 1e-6,
        "neighbours": "one row's contribution is there, or is not",
    }
    read = Page(report(privacy=privacy).html())
    assert "a factor of at most e^0.5 = 1.65, but for a chance of 1e-06" in read.words
    assert "k times epsilon" in read.words
    assert "exact" not in read.words


def test_the_chance_that_noise_leaves_is_enlarged_between_two_values() -> None:
    """From one value to none and on to the other: (1 + e^epsilon) delta, and no chance above 1."""
    privacy = {"mechanism": "discrete-gaussian", "epsilon": 0.5, "delta": 1e-6, "neighbours": "a row"}
    said = " ".join(report(privacy=privacy).privacy)
    assert "but for a chance of 1e-06; the odds between two values" in said
    assert "by its square, but for a chance of 2.65e-06." in said
    for epsilon, chance in ((20.0, "1"), (800.0, "1")):
        said = " ".join(report(privacy={**privacy, "epsilon": epsilon, "delta": 0.1}).privacy)
        assert f"by its square, but for a chance of {chance}." in said
    assert "e^800 = more than any number" in said
    said = " ".join(report(privacy={**privacy, "delta": 0.0}).privacy)
    assert "by its square." in said
    assert "chance" not in said


def test_rounded_counts_are_not_called_exact() -> None:
    said = " ".join(report(rounding="each count to the nearest multiple of 5, half of it up").privacy)
    assert "Rounded before anybody saw them: each count to the nearest multiple of 5, half of it up." in said
    assert "exact" not in said


def test_an_aligned_result_says_by_what_and_who_knows_whose_it_is() -> None:
    two = [{"dataset": "north", "columns": ["age"]}, {"dataset": "south", "columns": ["bmi"]}]
    three = [*two, {"dataset": "west", "columns": ["dose"]}]
    for inputs, others in ((two, "the other one"), (three, "all the others")):
        asked = job(inputs=inputs, alignment="people")
        found = Report.of(asked, document(asked, COVARIANCE))
        names = ", ".join(one["dataset"] for one in inputs)
        assert found.facts["aligned by"] == f"people: of the rows that are about the same people in {names}"
        (said,) = [one for one in found.privacy if "alignment" in one]
        assert f"each owner of {names} knows which of its own rows are about people" in said
        assert f"who are in {others}, too" in said
        assert ("Some of the owners together" in said) == (len(inputs) == 3)
        for form in (Page(found.html()).words, found.text(10_000)):
            assert said in form
    assert "aligned by" not in report().facts
    assert not any("alignment" in one for one in report().privacy)


@pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: type(plot).__name__)
def test_plots_are_drawn_the_same_each_time(plot: Shown) -> None:
    svg = draw(plot, "svg")
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert b"<script" not in svg
    assert svg == draw(plot, "svg")
    assert draw(plot, "png").startswith(b"\x89PNG")
    assert "\x1b" not in described(plot)
    (table,) = tables([plot])
    assert len({len(cells) for cells in table.columns.values()}) == 1


@pytest.mark.parametrize("plot", ENDLESS[1:], ids=lambda plot: type(plot).__name__)
def test_plots_say_that_they_leave_out_what_is_infinite_or_undefined(
    plot: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles: list[str] = []
    set_title = Axes.set_title
    monkeypatch.setattr(
        Axes, "set_title", lambda axes, title, **rest: (titles.append(title), set_title(axes, title, **rest))
    )
    assert ElementTree.fromstring(draw(plot, "svg")).tag.endswith("svg")
    assert draw(plot, "png").startswith(b"\x89PNG")
    assert titles == [f"{plot.title} ({LEFT_OUT})"] * 2
    draw(PLOTS[3], "svg")
    assert titles[-1] == "Odds"
    (table,) = tables([plot])
    assert "nan" not in table_text(table)


def test_an_estimate_of_no_weight_is_drawn_the_smallest(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[Any] = []
    scatter = Axes.scatter
    monkeypatch.setattr(
        Axes, "scatter", lambda *args, s, **rest: (sizes.append(list(s)), scatter(*args, s=s, **rest))
    )
    draw(
        Forest("Odds", "odds ratio", ["a", "b", "c"], [1, 2, 3], [1, 1, 1], [2, 3, 4], 1.0, [NAN, 4, 2]),
        "svg",
    )
    assert sizes == [[24, 84, 54]]


def test_every_form_has_words_for_what_is_infinite_or_undefined(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("mpcpriv.report.report.display", lambda *_: ENDLESS)
    found = report()
    for text in (found.text(), Page(found.html()).words):
        assert "infinite" in text
        assert "undefined" in text
        assert "0.500" in text
    found.write_pdf(tmp_path / "r.pdf")
    assert len(found.write_csv(tmp_path / "csv")) == len(ENDLESS)
    odds = pq.read_table(found.write_parquet(tmp_path / "parquet")[0])["odds"].to_pylist()
    assert odds[:2] == [0.5, INF]
    assert np.isnan(odds[2])


def test_a_legend_names_every_line() -> None:
    """Matplotlib leaves out names that begin with an underscore, unless it is told them."""
    with_names = draw(PLOTS[2], "svg")
    assert b'id="legend_1"' in with_names
    legend = with_names[with_names.index(b'id="legend_1"') :]
    assert legend.count(b'id="text_') == 2


def test_pdf(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"n{n}" for n in range(120)]
    tall = Forest("Tall", "x", names, [1] * 120, [0] * 120, [2] * 120)
    taller = Bars("Taller", [*names, "n120"], [1] * 121)
    shown = [*default("Much", MUCH), *PLOTS, tall, taller]
    monkeypatch.setattr("mpcpriv.report.report.display", lambda *_: shown)
    found = report()
    assert found.plots == [*PLOTS, tall]
    from mpcpriv.report.pdf import report_pdf

    content = report_pdf(found)
    assert content.startswith(b"%PDF-")
    assert content.count(b"/Subtype /Image") >= len(found.plots)
    digests = {hashlib.sha256(report_pdf(found)).hexdigest(), hashlib.sha256(content).hexdigest()}
    assert len(digests) == 1


MUCH = {"rows": 3, "names": [f"n{n}" for n in range(250)], "counts": list(range(250))}


def test_any_answer_can_be_shown() -> None:
    first, second = default("Title", MUCH)
    assert isinstance(first, Table)
    assert first == Table("Title", {"": ["rows"], "value": [3]})
    assert isinstance(second, Table)
    assert list(second.columns) == ["names", "counts"]
    assert "not-installed" in report("not-installed", {"a": 1.5, "b": "x"}).text()
    answer = {"category": "north", "rows": 3}
    (first,) = report("most-frequent-category", answer).tables
    assert first.columns[""] == ["rows", "category"]  # as its outputs say


def test_csv_and_parquet_hold_what_was_told(tmp_path: Path) -> None:
    found = report()
    first, second = found.write_csv(tmp_path / "tables")
    assert (first.name, second.name) == ("1-correlations.csv", "2-covariances.csv")
    rows = list(csv.reader(io.StringIO(second.read_text())))
    assert rows == [["name", "age", HOSTILE], ["age", "144.0", "12.5"], [HOSTILE, "12.5", "16.0"]]
    assert pq.read_table(found.write_parquet(tmp_path)[1]).to_pydict() == {
        "name": ["age", HOSTILE],
        "age": [144.0, 12.5],
        HOSTILE: [12.5, 16.0],
    }
    with pytest.raises(UsageError, match="is there already"):
        found.write_csv(tmp_path / "tables")


def test_no_text_in_a_csv_file_is_a_formula(tmp_path: Path) -> None:
    (path,) = write_csv(
        [Table("=1+1", {"=cmd|' /C calc'!A0": ["+1", "@x", "plain"], "n": [-1, 2.5, None]})], tmp_path
    )
    rows = list(csv.reader(io.StringIO(path.read_text())))
    assert rows == [["'=cmd|' /C calc'!A0", "n"], ["'+1", "-1"], ["'@x", "2.5"], ["plain", ""]]


def test_text_in_a_csv_file_stands_in_quotes(tmp_path: Path) -> None:
    """A spreadsheet that splits at semicolons finds no formula behind one."""
    (path,) = write_csv([Table("", {"": ["a;=1+1", 'b"c', "d\n=2"], "n;=3": [1, 2.5, None]})], tmp_path)
    assert path.read_bytes() == (b'"name","n;=3"\r\n"a;=1+1",1\r\n"b""c",2.5\r\n"d\n=2",""\r\n')


def test_a_column_without_a_heading_takes_no_other_ones_name(tmp_path: Path) -> None:
    table = Table("t", {"": ["a"], "name": ["b"], "name_": [1]})
    (path,) = write_parquet([table], tmp_path)
    assert pq.read_table(path).to_pydict() == {"name__": ["a"], "name": ["b"], "name_": [1]}
    (path,) = write_csv([table], tmp_path)
    assert path.read_text().splitlines()[0] == '"name__","name","name_"'


def test_frames() -> None:
    asked = job()
    result = Result(asked, document(asked, COVARIANCE))
    assert dict(result) == COVARIANCE
    frame = result.to_pandas()
    assert list(frame.columns) == ["name", "age", HOSTILE]
    assert frame.loc[0, "age"] == 1
    polars = result.to_polars("Covariances")
    assert polars["age"].to_list() == [144, 12.5]
    with pytest.raises(UsageError, match="there are 'Correlations', 'Covariances'"):
        result.to_pandas("Means")
    assert result._repr_html_().startswith("<table>")


def test_without_the_extra_tables_still_print(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def missing(name: str, *rest: Any, **named: Any) -> Any:
        if name.partition(".")[0] in ("matplotlib", "fpdf", "pandas", "polars"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name.partition(".")[0])
        return imported(name, *rest, **named)

    for name in [
        one for one in sys.modules if one.partition(".")[0] in ("matplotlib", "fpdf", "pandas", "polars")
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", missing)
    monkeypatch.setattr("mpcpriv.report.frames.importlib.import_module", missing)
    found = report()
    assert "0.2604" in found.text()
    assert "0.2604" in found.html()  # there is nothing to draw
    with pytest.raises(UsageError, match=r"pip install 'mpcpriv\[report\]'"):
        draw(PLOTS[0], "svg")
    with pytest.raises(UsageError, match=r"pip install 'mpcpriv\[report\]'"):
        found.write_pdf("never.pdf")
    asked = job()
    with pytest.raises(UsageError, match="pip install polars"):
        Result(asked, document(asked, COVARIANCE)).to_polars()


def test_the_command_writes_what_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = job()
    handle = SimpleNamespace(
        wait=lambda: SimpleNamespace(job=asked), document=lambda: document(asked, COVARIANCE)
    )
    daemon = SimpleNamespace(job=lambda _: handle)
    monkeypatch.setattr("mpcpriv.client.connection.connect", lambda _: nullcontext(daemon))

    def told(*options: str) -> str:
        found = CliRunner().invoke(commands, ["result", "12345678", *options])
        assert found.exit_code == 0, found.output
        return found.output

    assert "0.2604" in told()
    assert json.loads(told("--json")) == document(asked, COVARIANCE)
    wanted = [f"{option}={tmp_path / option[2:]}" for option in ("--csv", "--parquet", "--html", "--pdf")]
    assert told(*wanted, f"--output={tmp_path / 'json'}") == ""
    assert {path.name for path in tmp_path.iterdir()} == {"csv", "parquet", "html", "pdf", "json"}
    assert len(list((tmp_path / "csv").iterdir())) == 2


def test_a_result_of_another_job_is_refused() -> None:
    with pytest.raises(UsageError, match="fetch the job's own"):
        Report.of(job(purpose="teaching"), document(job(), COVARIANCE))


def test_the_digest_is_that_of_the_members_records() -> None:
    from mpcpriv.release import Result as Released

    asked = job()
    whole = document(asked, COVARIANCE)
    released = Released(whole["result"], whole["job"], whole["salt"], whole["statement"])
    assert Report.of(asked, {**whole, "budgets": []}).provenance["result"] == released.digest()

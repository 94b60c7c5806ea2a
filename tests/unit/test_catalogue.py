"""What is taught of an analysis is what it does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field
from typer.testing import CliRunner

from mpcpriv import analyses
from mpcpriv.analyses import catalogue
from mpcpriv.analyses.catalogue import Parameter
from mpcpriv.cli import commands
from mpcpriv.documents import Document
from mpcpriv.job.model import Column


class Taken(Document):
    """What a job can set.

    Attributes:
        target: the column that is predicted: a boolean,
            or a number.
        low, high: ends.
        kind: of test.

    Nothing of this: here.
    """

    target: Column
    low: float = 0.5
    high: Annotated[float, Field(gt=0, le=100)] | None = None
    kind: Literal["welch", "student"] = "welch"
    edges: Annotated[list[int], Field(min_length=2)] = Field([0, 1])
    exact: bool = False


def test_parameters_are_told_as_the_model_has_them() -> None:
    assert catalogue.parameters(Taken) == [
        Parameter("target", "a column", None, "the column that is predicted: a boolean, or a number."),
        Parameter("low", "a number", "0.5", "ends."),
        Parameter("high", "a number, more than 0, at most 100", "chosen by the analysis", "ends."),
        Parameter("kind", "one of welch, student", "welch", "of test."),
        Parameter("edges", "a list, at least 2 long, each a whole number", "[0, 1]", ""),
        Parameter("exact", "true or false", "false", ""),
    ]


@pytest.mark.parametrize("name", analyses.installed())
def test_each_analysis_is_taught(name: str) -> None:
    analysis = analyses.find(name)
    found = CliRunner().invoke(commands, ["analyses", name])
    assert found.exit_code == 0, found.output
    told = " ".join(found.output.split())
    for part in (analysis.title, " ".join(analysis.text.split()), analyses.digest(name)):
        assert part in told
    for one in (False, True):
        assert all(f"{output}" in told for output in analysis.outputs(catalogue.example(analysis, one)))
    for parameter in analysis.parameters.model_fields:
        (described,) = [one for one in catalogue.parameters(analysis.parameters) if one.name == parameter]
        assert described.text, f"{name}: the docstring of its parameters says nothing of {parameter}"
        assert f"{parameter}: {described.kind}" in told


def test_what_can_be_of_rows_that_nobody_knows_is_what_the_page_of_alignments_lists() -> None:
    """And each of them says so."""
    page = (Path(__file__).parents[2] / "docs/alignment.md").read_text()
    listed = page.partition("which nobody knows: ")[2].partition("Others are refused")[0]
    able = {name for name in analyses.installed() if isinstance(analyses.find(name), analyses.OverSecretRows)}
    assert set(re.findall(r"\[([a-z-]+)\]", listed)) == able
    for name in ("covariance", "k-means"):
        said = CliRunner().invoke(commands, ["analyses", name]).output
        assert ('mode = "secret"' in said) == (name in able)


def test_whether_there_is_noise() -> None:
    said = {name: catalogue.noise(analyses.find(name)) for name in analyses.installed()}
    assert said["private-logistic-regression"].startswith("always: noise is added in each")
    assert said["private-k-means"].startswith("always: noise is added once")
    assert said["private-mann-whitney"].startswith("always")
    assert said["logistic-regression"].startswith("no:")
    assert said["count-by-category"].startswith("on request, where rows are split:")
    assert said["count-and-mean"].startswith("on request:")  # each column's sums are its owner's
    assert said["covariance"].startswith("on request, where rows are split:")


def test_the_list_is_by_what_people_come_for() -> None:
    found = CliRunner().invoke(commands, ["analyses"])
    assert found.exit_code == 0
    lines = found.output.splitlines()
    for name in analyses.installed():
        (line,) = [one for one in lines if one.split()[:1] == [name]]
        assert analyses.find(name).title in line
    # Each of our own has its place in `GROUPS`.
    assert catalogue.grouped([*analyses.installed(), "of-others"])[catalogue.OTHER] == ["of-others"]
    assert analyses.digest("covariance") in CliRunner().invoke(commands, ["analyses", "--code"]).output

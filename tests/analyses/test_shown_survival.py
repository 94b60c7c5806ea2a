"""Tables and plots of survival, of studies and of clusters: whole, and of what came back from JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sklearn.datasets import load_iris

from mpcpriv import analyses
from mpcpriv.analyses.shown import Bars, Forest, Lines, Table
from tests.analyses import test_cox_regression, test_k_means, test_meta_analysis
from tests.analyses.answers import plain
from tests.analyses.survival import rossi


def shown(name: str, frame: Any, terms: Any, parameters: dict[str, Any]) -> list[Any]:
    answer = json.loads(json.dumps(plain(name, frame, terms, parameters), allow_nan=False))
    analysis: Any = analyses.find(name)
    assert isinstance(analysis, analyses.Showing)
    found = list(analysis.show(answer))
    for one in found:
        if isinstance(one, Table):
            assert len({len(column) for column in one.columns.values()}) == 1
        if isinstance(one, Forest):
            assert len({len(part) for part in (one.names, one.estimates, one.low, one.high)}) == 1
            assert len(one.weights) in (0, len(one.names))
        if isinstance(one, Lines):
            assert all(len(line.x) == len(line.y) == len(line.low) == len(line.high) for line in one.lines)
    return found


def test_survival_curves() -> None:
    given = {"time": "week", "event": "arrest", "group": "fin"}
    curves, risk, summary, table = shown("kaplan-meier", *rossi(), given)
    assert curves.steps
    assert [line.name for line in curves.lines] == ["fin 0", "fin 1"]
    assert risk.columns["fin 0"][0] == 216
    assert risk.columns["time"][:3] == [0, 10, 20]
    # Weeks 1 to 9 took some away before the tenth came.
    frame, _ = rossi()
    assert risk.columns["fin 1"][1] == ((frame["week"] >= 10) & (frame["fin"] == 1)).sum()
    assert summary.columns["events"] == [66, 48]
    assert len(table.columns["time"]) > 50
    test, groups = shown("log-rank", *rossi(), given)
    assert test.columns["P>chi2"][0] == pytest.approx(0.0501, abs=1e-3)
    assert groups.columns["observed"] == [66, 48]
    assert sum(groups.columns["expected"]) == pytest.approx(114)


def test_hazard_ratios() -> None:
    frame, terms, _ = test_cox_regression.rossi()
    given = test_cox_regression.parameters(terms, None)
    summary, table, plot = shown("cox-regression", frame, terms, given)
    assert "yes" in summary.columns[" "]
    assert table.columns["hazard ratio"][0] == pytest.approx(0.6843, abs=1e-3)
    assert plot.reference == 1


def test_a_forest_plot() -> None:
    given = {**test_meta_analysis.GIVEN, "show_studies": True}
    plot, *tables = shown("meta-analysis", *test_meta_analysis.table(test_meta_analysis.visits()), given)
    assert plot.names[-3:] == ["fixed effect", "random effects", "a further study"]
    assert len(tables) == 3
    plot, *tables = shown(
        "meta-analysis", *test_meta_analysis.table(test_meta_analysis.visits()), test_meta_analysis.GIVEN
    )
    assert len(plot.names) == 3
    assert len(tables) == 2


def test_clusters() -> None:
    table, bars = shown("k-means", *test_k_means.table(load_iris), {"clusters": 3, "steps": 30})
    assert isinstance(bars, Bars)
    assert sum(table.columns["rows"]) == 75

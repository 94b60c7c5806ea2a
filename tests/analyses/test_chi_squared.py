"""Chi-squared and Fisher's exact tests against scipy on real tables; with noise, against simulation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import load_breast_cancer

from mpcpriv import analyses
from mpcpriv.analyses import simulated
from mpcpriv.errors import Unsupported, UsageError
from tests.analyses.answers import plain, split_by_columns, split_by_rows
from tests.analyses.grouped_tables import Loaded, elections, prisoners, some, wine
from tests.analyses.test_t_test import noised

SPLITS = pytest.mark.parametrize("split", [split_by_rows, split_by_columns])
OPEN = {"unnoised": True, "minimum_cohort": 2, "smallest_cell": 1}


def tumours() -> Loaded:
    """569 tumours by size and by what they were."""
    bunch = load_breast_cancer()
    size = np.digitize(bunch.data[:, 0], [12, 16]).astype(float)
    terms: list[dict[str, Any]] = [
        {"name": "size", "type": "category", "categories": ["small", "medium", "large", "huge"]},
        {"name": "malignant", "type": "boolean"},
    ]
    return {"size": size, "malignant": 1.0 - bunch.target}, terms


CASES = [tumours(), some(elections(), "party", "vote"), some(prisoners(), "fin", "arrest")]


def table(loaded: Loaded) -> np.ndarray:
    frame, _ = loaded
    first, second = (values.astype(int) for values in frame.values())
    found = np.zeros((first.max() + 1, second.max() + 1))
    np.add.at(found, (first, second), 1)
    return found


@SPLITS
@pytest.mark.parametrize("loaded", CASES)
def test_independence(tmp_path: Path, loaded: Loaded, split: Callable[..., Any]) -> None:
    found = split(tmp_path, "chi-squared", *loaded, privacy=OPEN)
    counts = table(loaded)
    expected = stats.chi2_contingency(counts)
    assert found["counts"] == counts.flatten().tolist()  # nobody's tumour is huge
    assert len(found["categories"]) == len(counts)
    assert found["expected"] == pytest.approx(expected.expected_freq.flatten(), rel=1e-6)
    assert found["statistic"] == pytest.approx(expected.statistic, rel=1e-6)
    assert found["p_value"] == pytest.approx(expected.pvalue, rel=1e-6)
    assert found["degrees"] == expected.dof
    association = stats.contingency.association(counts.astype(int), method="cramer")
    assert found["cramers_v"] == pytest.approx(association, rel=1e-6)
    for shares in (False, True):
        assert plain("chi-squared", *loaded, shares=shares) == found
    analyses.find("chi-squared").show(found)  # type: ignore[attr-defined]


@pytest.mark.parametrize("probabilities", [None, [0.3, 0.5, 0.2]])
def test_goodness_of_fit(tmp_path: Path, probabilities: list[float] | None) -> None:
    loaded = some(wine(), "grower")
    parameters = {} if probabilities is None else {"probabilities": probabilities}
    found = split_by_rows(tmp_path, "chi-squared", *loaded, parameters, privacy=OPEN)
    counts = np.bincount(loaded[0]["grower"].astype(int))
    expected = stats.chisquare(counts, np.array(probabilities or [1 / 3] * 3) * counts.sum())
    assert found["statistic"] == pytest.approx(expected.statistic, rel=1e-6)
    assert found["p_value"] == pytest.approx(expected.pvalue, rel=1e-6)
    assert found["cohens_w"] == pytest.approx(np.sqrt(expected.statistic / 178), rel=1e-6)


def test_without_the_correction(tmp_path: Path) -> None:
    found = split_by_rows(tmp_path, "chi-squared", *CASES[2], {"correction": False}, privacy=OPEN)
    expected = stats.chi2_contingency(table(CASES[2]), correction=False)
    assert found["p_value"] == pytest.approx(expected.pvalue, rel=1e-6)


@SPLITS
@pytest.mark.parametrize(
    "loaded", [CASES[2], some(elections(), "vote", "party"), some(prisoners(), "arrest", "fin")]
)
def test_fisher(tmp_path: Path, loaded: Loaded, split: Callable[..., Any]) -> None:
    frame, terms = loaded
    if "party" in frame:  # of two categories: of the left or not
        frame = {**frame, "party": (frame["party"] > 0).astype(float)}
        terms = [terms[0], {**terms[1], "categories": ["left", "other"]}]
    found = split(tmp_path, "fisher-exact", frame, terms, privacy=OPEN)
    counts = table((frame, terms)).astype(int)
    expected = stats.fisher_exact(counts)
    assert found["counts"] == counts.flatten().tolist()
    assert found["p_value"] == pytest.approx(expected.pvalue, rel=1e-9)
    assert found["odds_ratio"] == pytest.approx(expected.statistic, rel=1e-9)
    assert found["low"] < found["odds_ratio"] < found["high"]
    assert plain("fisher-exact", frame, terms, shares=True) == found


def test_no_odds_ratio_where_a_count_is_0(tmp_path: Path) -> None:
    frame = {"a": np.array([0.0, 0, 0, 1, 1, 1, 1]), "b": np.array([0.0, 0, 0, 0, 1, 1, 1])}
    terms = [{"name": name, "type": "boolean"} for name in frame]
    found = split_by_rows(tmp_path, "fisher-exact", frame, terms, privacy=OPEN)
    assert found["p_value"] == pytest.approx(stats.fisher_exact([[3, 0], [1, 3]]).pvalue)
    assert "odds_ratio" not in found


@SPLITS
@pytest.mark.parametrize("analysis", ["chi-squared", "fisher-exact"])
def test_a_suppressed_cell_is_no_part_of_a_test(
    tmp_path: Path, analysis: str, split: Callable[..., Any]
) -> None:
    with pytest.raises(UsageError, match="are suppressed, for one has fewer rows"):
        split(tmp_path, analysis, *CASES[2], privacy={**OPEN, "smallest_cell": 60})


@pytest.mark.parametrize(
    ("columns", "parameters", "said"),
    [
        (["party", "vote"], {"probabilities": [0.5, 0.5]}, "2 probabilities, which are for one column"),
        (["party"], {"probabilities": [0.5, 0.5]}, "for one column of as many categories"),
        (["party"], {"probabilities": [0.5, 0.5, 0.5]}, "add up to 1.5"),
        (["party", "age"], {}, "'age' is a integer; a category"),
    ],
)
def test_what_is_no_table_is_refused(
    tmp_path: Path, columns: list[str], parameters: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        split_by_rows(tmp_path, "chi-squared", *some(elections(), *columns), parameters, privacy=OPEN)


def test_fisher_needs_two_of_two_and_no_noise(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'party' has not two categories"):
        split_by_rows(tmp_path, "fisher-exact", *some(elections(), "party", "vote"), privacy=OPEN)
    with pytest.raises(Unsupported, match="ask for chi-squared"):
        noised("fisher-exact", {}, CASES[2], 1.0, np.random.default_rng(0))


@pytest.mark.parametrize("columns", [1, 2])
def test_with_noise_the_error_of_the_first_kind_is_what_is_said(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 300 tests where nothing is there about 15 have p <= 0.05; more than 30 are one in 10,000."""
    monkeypatch.setattr(simulated, "TIMES", 499)
    rng = np.random.default_rng(8)
    terms = [{"name": name, "type": "category", "categories": ["x", "y", "z"]} for name in "ab"[:columns]]
    rejected = naive = found = 0
    for _ in range(300):
        frame = {name: rng.choice(3, 600, p=[0.5, 0.3, 0.2]).astype(float) for name in "ab"[:columns]}
        parameters = {} if columns == 2 else {"probabilities": [0.5, 0.3, 0.2]}
        told = noised("chi-squared", parameters, (frame, terms), 10.0, rng)
        rejected += told["p_value"] <= 0.05
        naive += stats.chi2.sf(told["statistic"], told["degrees"]) <= 0.05
        other = (
            {**frame, "a": np.where(rng.random(600) < 0.4, frame["b"], frame["a"])} if columns == 2 else frame
        )
        found += noised("chi-squared", parameters, (other, terms), 10.0, rng)["p_value"] <= 0.05
    assert 2 <= rejected <= 30
    assert naive > 45
    assert (found > 200) == (columns == 2)


def test_with_noise_a_job_says_how_wide_it_is(tmp_path: Path) -> None:
    found = split_by_rows(
        tmp_path,
        "chi-squared",
        *CASES[0],
        privacy={"mechanism": "discrete-gaussian"},
        budget={"epsilon": 8.0, "delta": 1e-5, "period_days": 30},
        release={"epsilon": 2.0, "delta": 1e-6},
    )
    assert found["p_value"] <= 1e-3
    truth = np.zeros((4, 2))
    truth[:3] = table(CASES[0])
    assert np.abs(np.array(found["counts"]) - truth.flatten()).max() < 3 * found["margin"]

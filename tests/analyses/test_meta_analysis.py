"""Meta-analyses against statsmodels, of studies that real tables are made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from statsmodels.datasets import china_smoking, grunfeld, randhie
from statsmodels.stats.meta_analysis import combine_effects

from mpcpriv.errors import Unsupported, UsageError
from tests.analyses.answers import plain, split_by_columns, split_by_rows

Studies = tuple[np.ndarray, np.ndarray]


def smoking() -> Studies:
    """Log odds ratios of lung cancer for smokers in eight cities of China."""
    counts = china_smoking.load_pandas().data.select_dtypes("number").to_numpy(dtype=float)
    return np.log(counts[:, 0] * counts[:, 3] / counts[:, 1] / counts[:, 2]), np.sqrt((1 / counts).sum(1))


def investment() -> Studies:
    """What a unit more of a firm's value goes along with in its investment, in eleven firms: far apart."""
    data = grunfeld.load_pandas().data
    return _slopes([(one["value"], one["invest"]) for _, one in data.groupby("firm")])


def visits() -> Studies:
    """What a physical limitation goes along with in visits to a doctor, by years of education."""
    data = randhie.load_pandas().data
    data = data.assign(group=(data["disea"] // 2).astype(int))
    parts = [(one["physlm"], np.log1p(one["mdvis"])) for _, one in data.groupby("group") if len(one) > 100]
    return _slopes([one for one in parts if one[0].std() > 0])


def _slopes(parts: list[tuple[Any, Any]]) -> Studies:
    effects, errors = [], []
    for first, second in parts:
        x, y = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
        x, y = x - x.mean(), y - y.mean()
        slope = x @ y / (x @ x)
        effects.append(slope)
        errors.append(np.sqrt(((y - slope * x) ** 2).sum() / (len(x) - 2) / (x @ x)))
    return np.array(effects), np.array(errors)


def table(studies: Studies) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    effects, errors = studies
    reach = 1.2 * np.abs(effects).max()
    return {"effect": effects, "se": errors}, [
        {"name": "effect", "type": "number", "low": float(-reach), "high": float(reach)},
        {"name": "se", "type": "number", "low": float(errors.min() / 1.5), "high": float(errors.max() * 1.5)},
    ]


GIVEN = {"effect": "effect", "standard_error": "se"}
TABLES = pytest.mark.parametrize("load", [smoking, investment, visits])


def as_statsmodels(found: dict[str, Any], studies: Studies, within: float) -> None:
    expected = combine_effects(studies[0], studies[1] ** 2, method_re="chi2")
    if expected.tau2 < 0:
        # There it goes on with a negative variance; by definition it is 0 then, and the effects are fixed.
        expected.mean_effect_re, expected.sd_eff_w_re = expected.mean_effect_fe, expected.sd_eff_w_fe
    means = np.array([expected.mean_effect_fe, expected.mean_effect_re])
    errors = np.array([expected.sd_eff_w_fe, expected.sd_eff_w_re])
    assert found["studies"] == len(studies[0])
    assert np.abs((np.array(found["estimate"]) - means) / errors).max() < within
    assert found["standard_error"] == pytest.approx(errors, rel=within)
    assert found["q"] == pytest.approx(expected.q, rel=within)
    assert found["tau2"] == pytest.approx(max(expected.tau2, 0), rel=within, abs=within * errors.min() ** 2)
    assert found["i2"] == pytest.approx(100 * max(expected.i2, 0), abs=100 * within)
    assert found["h2"] == pytest.approx(expected.q / expected.df, rel=within)
    ends = np.column_stack([means - 1.959964 * errors, means + 1.959964 * errors])
    assert ends[0] == pytest.approx(expected.conf_int()[0], rel=1e-6)
    told = np.column_stack([found["low"], found["high"]])
    assert told == pytest.approx(ends, abs=2 * max(within, 1e-6) * errors.max())
    assert found["q_p_value"] == pytest.approx(expected.test_homogeneity().pvalue, abs=within)


@TABLES
def test_rows_split_as_statsmodels_has_it(tmp_path: Path, load: Callable[[], Studies]) -> None:
    studies = load()
    frame, terms = table(studies)
    found = split_by_rows(tmp_path, "meta-analysis", frame, terms, GIVEN)
    as_statsmodels(found, studies, 1e-3)
    oracle = plain("meta-analysis", frame, terms, GIVEN)
    as_statsmodels(oracle, studies, 1e-9)
    assert set(found) == set(oracle)
    assert "study" not in found


def test_studies_are_shown_where_that_is_asked_for(tmp_path: Path) -> None:
    studies = visits()
    frame, terms = table(studies)
    found = split_by_rows(
        tmp_path, "meta-analysis", frame, terms, {**GIVEN, "show_studies": True}, cuts=[3, 5]
    )
    assert found["study"] == [
        f"{owner}-rows {row}"
        for owner, rows in zip(("alice", "bob", "carol"), (3, 2, 7), strict=True)
        for row in range(1, rows + 1)
    ]
    assert found["study_effect"] == pytest.approx(studies[0], abs=1e-4)
    assert found["study_error"] == pytest.approx(studies[1], rel=1e-3)
    assert sum(found["fixed_weight"]) == pytest.approx(100)
    expected = combine_effects(studies[0], studies[1] ** 2, method_re="chi2").summary_frame()
    assert found["fixed_weight"] == pytest.approx(100 * expected["w_fe"].to_numpy()[:12], rel=2e-3)
    assert found["random_weight"] == pytest.approx(100 * expected["w_re"].to_numpy()[:12], rel=2e-3)


def test_the_prediction_interval_is_that_of_higgins() -> None:
    from scipy import stats

    studies = investment()
    found = plain("meta-analysis", *table(studies), GIVEN)
    reach = stats.t.ppf(0.975, len(studies[0]) - 2) * np.hypot(
        np.sqrt(found["tau2"]), found["standard_error"][1]
    )
    assert np.diff(found["prediction"])[0] == pytest.approx(2 * reach)
    assert np.mean(found["prediction"]) == pytest.approx(found["estimate"][1])


def test_two_studies_that_agree(tmp_path: Path) -> None:
    studies = (np.array([0.5, 0.5, 0.5]), np.array([0.1, 0.2, 0.1]))
    frame, terms = table(studies)
    found = split_by_rows(tmp_path, "meta-analysis", frame, terms, GIVEN, cuts=[1, 2])
    assert found["q"] == pytest.approx(0, abs=1e-4)
    assert found["tau2"] == found["i2"] == 0
    assert found["estimate"] == pytest.approx([0.5, 0.5], abs=1e-4)
    assert found["standard_error"] == pytest.approx([1 / 15] * 2, rel=1e-3)


def test_what_is_refused(tmp_path: Path) -> None:
    frame, terms = table(smoking())
    with pytest.raises(UsageError, match="side by side"):
        split_by_columns(tmp_path, "meta-analysis", frame, terms, GIVEN)
    with pytest.raises(UsageError, match="agreed bounds above 0"):
        plain("meta-analysis", frame, [terms[0], {**terms[1], "low": 0.0}], GIVEN)
    with pytest.raises(UsageError, match="2 to 8192 studies"):
        plain("meta-analysis", {name: one[:1] for name, one in frame.items()}, terms, GIVEN)
    with pytest.raises(Unsupported, match="how much one row can change"):
        split_by_rows(
            tmp_path,
            "meta-analysis",
            frame,
            terms,
            GIVEN,
            privacy={"mechanism": "discrete-gaussian"},
            budget={"epsilon": 8.0, "delta": 1e-5, "period_days": 30},
            release={"epsilon": 2.0, "delta": 1e-6},
        )

"""One-way analysis of variance against scipy on real tables; with noise, against simulation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from mpcpriv.analyses import simulated
from mpcpriv.errors import UsageError
from tests.analyses.answers import plain, split_by_columns, split_by_rows
from tests.analyses.grouped_tables import Loaded, elections, iris, some, wine
from tests.analyses.test_t_test import noised

CASES = [
    (some(wine(), "acid", "grower"), {"value": "acid", "group": "grower"}),
    (some(iris(), "species", "width"), {"value": "width", "group": "species"}),
    (some(elections(), "age", "party"), {"value": "age", "group": "party"}),
]


@pytest.mark.parametrize("split", [split_by_rows, split_by_columns])
@pytest.mark.parametrize(("loaded", "parameters"), CASES)
def test_as_scipy_has_it(
    tmp_path: Path, loaded: Loaded, parameters: dict[str, Any], split: Callable[..., Any]
) -> None:
    frame, terms = loaded
    found = split(tmp_path, "anova", frame, terms, parameters)
    value, group = frame[parameters["value"]], frame[parameters["group"]]
    samples = [value[group == code] for code in np.unique(group)]
    expected = stats.f_oneway(*samples)
    assert found["statistic"] == pytest.approx(expected.statistic, rel=1e-3)
    assert np.log(found["p_value"]) == pytest.approx(np.log(expected.pvalue), rel=1e-3, abs=1e-2)
    assert found["counts"] == [len(one) for one in samples]
    assert found["means"] == pytest.approx([one.mean() for one in samples], rel=1e-3)
    assert found["deviations"] == pytest.approx([one.std(ddof=1) for one in samples], rel=1e-3)
    within = sum(((one - one.mean()) ** 2).sum() for one in samples)
    between = ((value - value.mean()) ** 2).sum() - within
    assert (found["within"], found["between"]) == pytest.approx((within, between), rel=1e-3)
    assert found["eta_squared"] == pytest.approx(between / (within + between), rel=1e-3)
    assert found["degrees"] == [len(samples) - 1, len(value) - len(samples)]
    for shares in (False, True):
        oracle = plain("anova", frame, terms, parameters, shares=shares)
        assert oracle["statistic"] == pytest.approx(found["statistic"], rel=1e-3)


def test_without_variance_there_is_no_f(tmp_path: Path) -> None:
    frame, terms = some(wine(), "acid", "grower")
    with pytest.raises(UsageError, match="no variance within the groups"):
        split_by_rows(
            tmp_path,
            "anova",
            {**frame, "acid": frame["acid"] * 0 + 3},
            terms,
            {"value": "acid", "group": "grower"},
        )
    with pytest.raises(UsageError, match="'taste' is none of the columns"):
        split_by_rows(tmp_path, "anova", frame, terms, {"value": "acid", "group": "taste"})


def test_with_noise_the_error_of_the_first_kind_is_what_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 200 tests where nothing is there about 10 have p <= 0.05; more than 22 are one in 10,000."""
    monkeypatch.setattr(simulated, "TIMES", 499)
    rng = np.random.default_rng(7)
    terms = [
        {"name": "x", "type": "number", "low": -3.0, "high": 3.0},
        {"name": "g", "type": "category", "categories": ["a", "b", "c"]},
    ]
    parameters = {"value": "x", "group": "g"}
    rejected = found = naive = 0
    for _ in range(200):
        frame = {"x": rng.normal(0, 1, 900).clip(-3, 3), "g": rng.integers(0, 3, 900).astype(float)}
        told = noised("anova", parameters, (frame, terms), 8.0, rng)
        rejected += told["p_value"] <= 0.05
        naive += stats.f.sf(told["statistic"], *told["degrees"]) <= 0.05
        apart = {**frame, "x": (frame["x"] + 0.5 * frame["g"]).clip(-3, 3)}
        found += noised("anova", parameters, (apart, terms), 8.0, rng)["p_value"] <= 0.05
    assert 1 <= rejected <= 22
    assert naive > 30
    assert found > 180

"""Report-noisy-max on shares: the largest noised count is chosen, at the price of one count."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpcpriv.analyses.query import Query
from mpcpriv.errors import UsageError
from mpcpriv.privacy.mechanism import Noise, Sensitivity
from tests.protocol.job_cases import OWNERS, Case, case
from tests.protocol.test_counts import COUNTS, TERMS, TOTALS, tables, unnoised
from tests.protocol.test_jobs import run, values
from tests.protocol.test_private_jobs import document

LAPLACE = {"mechanism": "discrete-laplace"}
BUDGET = {"epsilon": 50.0, "delta": 0.0, "period_days": 30}


def choice(folder: Path, epsilon: float | None, privacy: dict[str, Any] = LAPLACE) -> Case:
    options: dict[str, Any] = {} if epsilon is None else {"release": {"epsilon": epsilon}, "budget": BUDGET}
    terms = dict.fromkeys(OWNERS, TERMS)
    return case(folder, tables(COUNTS), terms, "most-frequent-category", privacy=privacy, **options)


def test_without_noise_the_largest_is_found(tmp_path: Path) -> None:
    one = choice(tmp_path, None, unnoised())
    reports = run(one)
    assert values(one, reports) == {"rows": sum(TOTALS), "category": "east / ill 0"}
    assert reports[0].layout[0].size == 1


def test_a_category_that_is_far_ahead_is_found_with_noise(tmp_path: Path) -> None:
    one = choice(tmp_path, 2.0)
    found = document(one, run(one))
    assert found["result"]["category"] == "east / ill 0"  # by 29 rows, with noise of about 1
    privacy = found["statement"]["privacy"]
    assert privacy["sensitivity_l1"] == 2**14  # of one count, not of eight
    assert privacy["scale"] == pytest.approx(2**14 / 2.0)
    assert privacy["mechanism"] == "one-sided-geometric"


@pytest.mark.slow
def test_each_choice_is_as_likely_as_its_noise_makes_it(tmp_path: Path) -> None:
    """With little budget others win, too, and as often as the same noise says without shares."""
    one = choice(tmp_path, 0.05)
    names = [f"{region} / ill {ill}" for region, ill in COUNTS]
    wins = np.zeros(len(names))
    for _ in range(30):
        wins[names.index(document(one, run(one))["result"]["category"])] += 1
    noise = Noise("one-sided-geometric", Fraction(2**14) / Fraction(0.05), 3, 2)
    drawn = sum(np.asarray(noise.share(20_000 * 8)).reshape(-1, 8) for _ in range(3))
    expected = np.bincount((drawn + 2**14 * np.array(TOTALS)).argmax(1), minlength=8) / 20_000
    assert expected.max() < 0.6
    best = int(expected.argmax())
    spread = np.sqrt(30 * expected[best] * (1 - expected[best]))
    assert abs(wins[best] - 30 * expected[best]) < 5 * spread
    assert np.count_nonzero(wins) > 1


def test_a_choice_needs_pure_privacy(tmp_path: Path) -> None:
    release = {"epsilon": 1.0, "delta": 1e-6}
    gaussian = case(
        tmp_path,
        tables(COUNTS),
        dict.fromkeys(OWNERS, TERMS),
        "most-frequent-category",
        privacy={"mechanism": "discrete-gaussian"},
        release=release,
        budget={**BUDGET, "delta": 1e-6},
    )
    with pytest.raises(UsageError, match="discrete-laplace, and agreement test has discrete-gaussian"):
        run(gaussian)


def test_where_a_row_can_take_away_twice_as_much_noise_is_needed() -> None:
    def query(low: int) -> Query:
        ends = np.full(3, low), np.full(3, 4)
        return Query(*ends, lambda _: np.zeros((1, 3), dtype=np.int64), lambda _: {}, choose=True)

    assert query(0).sensitivity() == Sensitivity(4, 16, 4)
    assert query(-1).sensitivity() == Sensitivity(8, 64, 8)

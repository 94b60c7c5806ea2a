"""Differencing: who asks again and again, with and without one row, does no better than the budget allows.

The attacker knows every row but one, and whether that one is there is tossed by a coin. He asks 1,000 times,
each question chosen in view of the answers before, until the ledger refuses, and takes his accomplice's noise
off each answer. Of whatever rule by which he then says "there", (ε, δ)-differential privacy bounds how often
he is right: P(says so | there) <= e^ε P(says so | not there) + δ (Kairouz, Oh and Viswanath, "The Composition
Theorem for Differential Privacy", ICML 2015, Theorem 2.1).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from mpcpriv.party.state import State
from mpcpriv.privacy.accounting import training_loss, training_multiplier
from mpcpriv.privacy.ledger import Charge, Ledger
from mpcpriv.privacy.loss import Allowance
from mpcpriv.privacy.mechanism import Noise

QUESTIONS = 1_000
EPSILON, DELTA = 1.0, 1e-6
MOST = 1 << 12
"""What the row contributes at most, in grid units."""
MULTIPLIER = training_multiplier(EPSILON, DELTA, rate=1.0, steps=QUESTIONS)
NOW = datetime(2027, 1, 2, tzinfo=UTC)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    state = State(f"sqlite:///{tmp_path / 'state.sqlite'}")
    yield state.ledger
    state.close()


def test_the_ledger_lets_him_ask_so_often_and_no_more(ledger: Ledger) -> None:
    def ask(number: int, questions: int) -> list[str]:
        loss = training_loss(MULTIPLIER, 1.0, questions)
        charge = Charge(loss, Allowance(EPSILON, DELTA), 0)
        return ledger.reserve(f"{number:064x}", "study", {"north": charge}, NOW)

    assert ask(0, QUESTIONS - 20) == []
    assert [ask(number, 1) for number in range(1, 21)] == [[]] * 20
    assert all(len(ask(number, 1)) == 1 for number in range(21, 24))
    assert 0.999 * EPSILON < ledger.spent("study", "north", 0).epsilon(DELTA) <= EPSILON


def evidence(worlds: int, multiplier: float) -> tuple[np.ndarray, np.ndarray]:
    """Whether the row was there, and his log-likelihood ratio for it, in each of so many worlds."""
    there = np.random.default_rng(8).integers(0, 2, worlds)
    noise = Noise("discrete-gaussian", Fraction(multiplier * MOST) ** 2, parties=2, collusion=1)
    ratio, variance = np.zeros(worlds), float(noise.scale)
    for _ in range(QUESTIONS):
        # As he leans, so he asks next: what the row would add, or what it would take away.
        asked = np.where(ratio < 0, -MOST, MOST)
        answer = asked * there + np.asarray(noise.share(worlds))
        ratio += (asked * answer - asked**2 / 2) / variance
    return there, ratio


def excess(there: np.ndarray, ratio: np.ndarray) -> float:
    """By how many standard errors the best of his rules, and of their opposites, breaks the bound."""
    worst = -math.inf
    for threshold in np.quantile(ratio, np.linspace(0.05, 0.95, 19)):
        for says in (ratio > threshold, ratio <= threshold):
            for truth in (there == 1, there == 0):
                right, wrong = says[truth].mean(), says[~truth].mean()
                error = math.sqrt(
                    right * (1 - right) / truth.sum()
                    + math.exp(2 * EPSILON) * wrong * (1 - wrong) / (~truth).sum()
                )
                worst = max(worst, (right - math.exp(EPSILON) * wrong - DELTA) / max(error, 1e-9))
    return worst


@pytest.mark.parametrize(
    "worlds", [200, pytest.param(4_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
def test_he_does_no_better_than_the_bound(worlds: int) -> None:
    there, ratio = evidence(worlds, MULTIPLIER)
    assert excess(there, ratio) < 5


def test_with_too_little_noise_he_is_caught_doing_better() -> None:
    """The test can fail: with a twentieth of the noise he is nearly always right."""
    there, ratio = evidence(200, MULTIPLIER / 20)
    assert excess(there, ratio) > 5

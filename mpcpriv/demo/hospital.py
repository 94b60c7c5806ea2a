"""What every hospital runs: shares its own rows, trains with the others, opens the model, counts the cost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mpcpriv.demo import table

if TYPE_CHECKING:
    from mpcpriv.engine.session import Session

_BAR = 24


@dataclass(frozen=True)
class Recipe:
    """How to train; public, and the same at every party.

    Attributes:
        salt: picks the split of the rows.
        steps: Newton steps, each on all rows.
        penalty: the weight of |w|^2 / 2, the intercept excepted: 1 / C of scikit-learn.
        blocks: whether the terminal shows block characters.
    """

    salt: str = table.SALT
    steps: int = 8
    penalty: float = 1.0
    blocks: bool = True


@dataclass(frozen=True)
class Outcome:
    """What a hospital has at the end: the model, and what it took.

    Attributes:
        coefficients, intercept: the model for features scaled by `table.scale`; (30,) and a number.
        rounds: times that it waited for the other hospitals.
        sent, received: bytes to and from the other hospitals.
        dealt: bytes of correlated randomness from the dealer.
        messages: how many came from the other hospitals and from the dealer.
        seconds: from reading the rows to the opened model.
    """

    coefficients: np.ndarray
    intercept: float
    rounds: int
    sent: int
    received: int
    dealt: int
    messages: int
    seconds: float


def hospital(recipe: Recipe) -> Outcome:
    """One party's part of the demo, inside a launched process."""
    # Late: torch and CrypTen, which the process that launches the hospitals does not need.
    import torch

    from mpcpriv.analyses.logistic_regression import fold, standardise, train
    from mpcpriv.engine.encoding import decode
    from mpcpriv.engine.session import current
    from mpcpriv.engine.tensor import SharedTensor

    began = time.perf_counter()
    s = current()
    features, labels = table.load()
    rows = table.split(labels, recipe.salt)[: s.size]
    mine = rows[s.rank]
    own = torch.from_numpy(np.column_stack([table.scale(features[mine]), labels[mine]]))
    del features, labels  # the other hospitals' rows are not ours to see
    print(f"shares {len(own)} patients: {own.shape[1] - 1} measurements and a diagnosis each", flush=True)
    everybody = SharedTensor.cat(
        [
            SharedTensor(own if source == s.rank else None, size=(len(r), own.shape[1]), src=source)
            for source, r in enumerate(rows)
        ]
    )
    if s.rank == 0:
        print("standardises with the others; means and spreads stay secret", flush=True)
    x, mean, per_spread = standardise(everybody[:, :-1])
    progress = Progress(recipe, s, began)
    weights, _ = train(x, everybody[:, -1], recipe.steps, recipe.penalty, progress.steps)
    model = fold(weights, mean, per_spread)
    # The one opening: 31 numbers, to all three hospitals, as they have agreed.
    opened = s.open_to("the model, to all hospitals", model.share, list(range(s.size)))
    assert opened is not None
    numbers = decode(opened, model.bits).numpy()
    return _outcome(s, numbers, time.perf_counter() - began)


class Progress:
    """A line per step, at the first hospital. The loss is not in it: nobody knows the loss."""

    def __init__(self, recipe: Recipe, s: Session, began: float) -> None:
        self._recipe, self._session, self._began = recipe, s, began

    def steps(self, turns: int, name: str) -> Iterator[int]:
        """0 .. turns - 1, as `mpcpriv.steps`; of the training it shows how far it is."""
        for step in self._session.steps(turns, name):
            yield step
            if name == "training":
                self._show(self._recipe.steps - turns + step + 1)

    def _show(self, step: int) -> None:
        """Shows that a step is done; they count from 1."""
        s, steps = self._session, self._recipe.steps
        if s.rank != 0:
            return
        full, empty = ("\u2588", "\u2591") if self._recipe.blocks else ("#", ".")
        done = _BAR * step // steps
        bar = full * done + empty * (_BAR - done)
        spent = time.perf_counter() - self._began
        print(f"{bar} step {step} of {steps}, {s.cost.rounds:>3,} rounds, {spent:4.1f} s", flush=True)


def _outcome(s: Session, numbers: np.ndarray, seconds: float) -> Outcome:
    others = [rank for rank in range(len(s.transport.members)) if rank != s.rank]
    return Outcome(
        coefficients=numbers[:-1],
        intercept=float(numbers[-1]),
        rounds=s.cost.rounds,
        sent=s.cost.sent,
        received=s.cost.received,
        dealt=s.correlations.received,
        messages=sum(s.transport.traffic(peer).messages_received for peer in others),
        seconds=seconds,
    )

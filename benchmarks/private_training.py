"""Ways to a private logistic regression, at equal (ε, δ): which tells unseen rows best.

    python benchmarks/private_training.py             prints the table of docs/private-training.md
    python benchmarks/private_training.py --shares    adds runs on shares, two parties as threads
    python benchmarks/private_training.py --write     writes it there

The ways are compared in plain, with noise from numpy (which is good enough to compare accuracies, and for
nothing else). Each stands at its best over a grid of its own settings: the choice is not paid for, in any
of them. Features are scaled to [-1, 1] by bounds a twentieth wider than the data; δ is 1e-5; a third of the
rows is unseen; accuracies are means over `SEEDS` runs.
"""

from __future__ import annotations

import argparse
import itertools
import math
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from mpcpriv.privacy.accounting import gaussian_multiplier, training_multiplier

PAGE = Path(__file__).resolve().parent.parent / "docs" / "private-training.md"
EPSILONS, DELTA, SEEDS = (0.5, 1.0, 3.0), 1e-5, 10
MARK = "<!-- benchmarks/private_training.py -->"
Way = Callable[[np.ndarray, np.ndarray, float], Iterator[Callable[[np.random.Generator], np.ndarray]]]


def tables() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Features and what is to be told, 0 or 1."""
    import statsmodels.api as sm

    cancer, digits = load_breast_cancer(), load_digits()
    two = digits.target < 2
    affairs = sm.datasets.fair.load_pandas().data
    made = make_classification(10_000, 20, n_informative=10, class_sep=0.7, flip_y=0.05, random_state=1)
    return {
        "breast cancer": (cancer.data, cancer.target),
        "digits 0, 1": (digits.data[two], digits.target[two]),
        "affairs": (affairs.drop(columns="affairs").to_numpy(float), (affairs.affairs > 0).to_numpy(int)),
        "artificial": made,
    }


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(z, -40, 40)))


def descent(rate: float, steps: tuple[int, ...]) -> Way:
    """Noised steps, each on a Poisson sample of this rate, gradients clipped row by row."""

    def way(
        x: np.ndarray, y: np.ndarray, epsilon: float
    ) -> Iterator[Callable[[np.random.Generator], np.ndarray]]:
        lengths = np.linalg.norm(x, axis=1)
        for turns in steps:
            multiplier = training_multiplier(epsilon, DELTA, rate, turns)
            for clip, learning in itertools.product((0.5, 1.0), (0.5, 1.0, 2.0, 4.0, 8.0)):

                def train(
                    g: np.random.Generator,
                    turns: int = turns,
                    clip: float = clip,
                    learning: float = learning,
                    multiplier: float = multiplier,
                ) -> np.ndarray:
                    w = np.zeros(x.shape[1])
                    for _ in range(turns):
                        part = slice(None) if rate == 1 else np.flatnonzero(g.random(len(x)) < rate)
                        r = sigmoid(x[part] @ w) - y[part]
                        r = np.clip(r * lengths[part], -clip, clip) / lengths[part]
                        noise = g.normal(size=len(w)) * multiplier * clip
                        w = w - learning * (x[part].T @ r + noise) / (len(x) * rate)
                    return w

                yield train

    return way


def minimum(x: np.ndarray, y: np.ndarray, penalty: float, tilt: Any = 0.0) -> np.ndarray:
    """Of the sum of log-losses + penalty / 2 |w|^2 + tilt w, by Newton's method."""
    w = np.zeros(x.shape[1])
    for _ in range(50):
        p = sigmoid(x @ w)
        hessian = (x * (p * (1 - p))[:, None]).T @ x + penalty * np.eye(len(w))
        step = np.linalg.solve(hessian, x.T @ (p - y) + penalty * w + tilt)
        w = w - step
        if np.abs(step).max() < 1e-9:
            break
    return w


def output(
    x: np.ndarray, y: np.ndarray, epsilon: float
) -> Iterator[Callable[[np.random.Generator], np.ndarray]]:
    """Noise on the minimum (Chaudhuri, Monteleoni and Sarwate, JMLR 2011, section 3), Gaussian.

    Rows are scaled to a norm of 1; then a row moves the minimum by at most 1 / penalty.
    """
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    for penalty in (1.0, 3.0, 10.0, 30.0, 100.0, 300.0):
        exact, spread = minimum(x, y, penalty), gaussian_multiplier(epsilon, DELTA) / penalty
        yield lambda g, exact=exact, spread=spread: exact + g.normal(size=len(exact)) * spread


def objective(least: bool) -> Way:
    """Noise on the objective, Gaussian: by Kifer, Smith and Thakurta (COLT 2012, Algorithm 1), or with the
    `least`
    noise that any analysis of it could allow: that of a Gaussian release of the gradient at
    ε - log(1 / (1 - 1 / (4 penalty))) and δ. Exact minima, which nobody reaches on a grid."""

    def way(
        x: np.ndarray, y: np.ndarray, epsilon: float
    ) -> Iterator[Callable[[np.random.Generator], np.ndarray]]:
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
        for wanted in (1.0, 3.0, 10.0, 30.0, 100.0):
            penalty = wanted if least else max(wanted, 0.5 / epsilon)
            left = epsilon + math.log1p(-0.25 / penalty)
            if left <= 0:
                continue
            spread = (
                gaussian_multiplier(left, DELTA)
                if least
                else math.sqrt(8 * math.log(2 / DELTA) + 4 * epsilon) / epsilon
            )
            yield lambda g, penalty=penalty, spread=spread: minimum(
                x, y, penalty, g.normal(size=x.shape[1]) * spread
            )

    return way


WAYS: dict[str, Way] = {
    "steps on all rows": descent(1.0, (20, 50)),
    "steps on samples of a tenth": descent(0.1, (100,)),
    "noise on the minimum": output,
    "noise on the objective": objective(False),
    "the same, least noise": objective(True),
}


def on_shares(x: np.ndarray, y: np.ndarray, epsilon: float) -> np.ndarray:
    """The analysis itself with its own settings, two parties and a dealer as threads of this process."""
    import mpcpriv.engine
    from mpcpriv.transport.memory import MemoryHub

    mpcpriv.engine.activate()
    import torch

    from mpcpriv.analyses.analysis import Context
    from mpcpriv.analyses.private_logistic_regression import ANALYSIS, Parameters
    from mpcpriv.engine.perturb import Ahead
    from mpcpriv.engine.private import logistic
    from mpcpriv.engine.tensor import SharedTensor

    hub, found = MemoryHub(["alice", "bob", "dealer"]), {}
    parameters = Parameters(target="target")
    composition = ANALYSIS.composition(parameters, len(x))
    noise = composition.noise(composition.multiplier(epsilon, DELTA), 2, 1)

    def party(rank: int) -> None:
        session = mpcpriv.engine.join(hub.endpoints[rank])
        session.progress = None
        context = Context(session.parties, rank, session.steps, noise)
        shared = SharedTensor(torch.from_numpy(x), src=0), SharedTensor(torch.from_numpy(y).double(), src=1)
        rows = logistic.split(*shared)
        drawn = Ahead(noise, x.shape[1] + 1, parameters.steps)
        weights = ANALYSIS.descend(context, rows, drawn, parameters, len(x))
        found[rank] = weights.get_plain_text()
        session.close()

    threads = [threading.Thread(target=party, args=(rank,)) for rank in range(2)]
    threads.append(threading.Thread(target=mpcpriv.engine.deal, args=(hub.endpoints[2],)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    weights: np.ndarray = found[0].numpy().flatten()
    return weights


def measured(shares: bool) -> str:
    """The table, in Markdown."""
    names = [*WAYS, *(["on shares"] if shares else [])]
    lines = [
        f"| table (rows, features) | ε | no privacy | {' | '.join(names)} |",
        "| --- | --- | --- |" + " --- |" * len(names),
    ]
    for title, (x, y) in tables().items():
        seen, unseen, told, asked = train_test_split(x, y, test_size=1 / 3, random_state=0, stratify=y)
        low, high = seen.min(0), seen.max(0)
        low, high = low - (high - low) / 20, high + (high - low) / 20 + 1e-9
        seen, unseen = (np.clip((2 * part - low - high) / (high - low), -1, 1) for part in (seen, unseen))
        one, other = (np.hstack([part, np.ones((len(part), 1))]) for part in (seen, unseen))

        def accuracy(w: np.ndarray, other: np.ndarray = other, asked: np.ndarray = asked) -> float:
            return float(((other @ w > 0) == asked).mean())

        best = LogisticRegression(C=10, max_iter=9999).fit(seen, told).score(unseen, asked)
        for epsilon in EPSILONS:
            cells = [
                max(
                    float(np.mean([accuracy(train(np.random.default_rng(seed))) for seed in range(SEEDS)]))
                    for train in way(one, told, epsilon)
                )
                for way in WAYS.values()
            ]
            if shares:
                cells.append(float(np.mean([accuracy(on_shares(seen, told, epsilon)) for _ in range(4)])))
            figures = " | ".join(f"{cell:.3f}" for cell in cells)
            lines.append(f"| {title} ({len(one)}, {seen.shape[1]}) | {epsilon:g} | {best:.3f} | {figures} |")
            print(lines[-1], flush=True)
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shares", action="store_true", help="runs the analysis on shares, too")
    parser.add_argument("--write", action="store_true", help=f"writes the table to {PAGE.name}")
    chosen = parser.parse_args()
    table = measured(chosen.shares or chosen.write)
    if chosen.write:
        before, _, after = PAGE.read_text(encoding="utf-8").split(MARK)
        PAGE.write_text(f"{before}{MARK}\n{table}\n{MARK}{after}", encoding="utf-8")
    else:
        print(table)

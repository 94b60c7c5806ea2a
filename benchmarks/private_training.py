"""Ways to a private logistic regression, at equal (ε, δ): which tells unseen rows best.

    python benchmarks/private_training.py                    prints the table of docs/private-training.md
    python benchmarks/private_training.py --shares           adds Opacus, and two parties as threads
    python benchmarks/private_training.py --write            writes it there
    python benchmarks/private_training.py --plot curve.svg   draws accuracy against ε: on shares, by Opacus,
                                                             without privacy; alone it measures only these

The ways are compared in plain, with noise from numpy (which is good enough to compare accuracies, and for
nothing else). Each stands at its best over a grid of its own settings: the choice is not paid for, in any
of them. Features are scaled to [-1, 1] by bounds a twentieth wider than the data; δ is 1e-5; a third of the
rows is unseen; accuracies are means over `SEEDS` runs, of Opacus and on shares over `RUNS`.
"""

from __future__ import annotations

import argparse
import itertools
import math
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from mpcpriv.privacy import accounting
from mpcpriv.privacy.accounting import gaussian_multiplier

PAGE = Path(__file__).resolve().parent.parent / "docs" / "private-training.md"
EPSILONS, DELTA, SEEDS, RUNS = (0.5, 1.0, 3.0, 8.0), 1e-5, 10, 5
MARK = "<!-- benchmarks/private_training.py -->"
SHARES, OPACUS = "on shares", "Opacus"
training_multiplier = cache(accounting.training_multiplier)
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
    composition = ANALYSIS.composition(parameters)
    multiplier = training_multiplier(epsilon, DELTA, composition.rate, composition.steps)
    noise = composition.noise(multiplier, 2, 1)

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


@cache
def opacus_multiplier(epsilon: float) -> float:
    from opacus.accountants.utils import get_noise_multiplier

    found: float = get_noise_multiplier(
        target_epsilon=epsilon, target_delta=DELTA, sample_rate=0.1, epochs=10, accountant="rdp"
    )
    return found


def opacus(x: np.ndarray, y: np.ndarray, epsilon: float, learning: float) -> np.ndarray:
    """Opacus on the pooled rows: 100 steps on samples of a tenth."""
    import torch
    from opacus import PrivacyEngine

    rows = torch.utils.data.TensorDataset(torch.from_numpy(x).float(), torch.from_numpy(y).float())
    plain = torch.nn.Linear(x.shape[1], 1)
    model, optimizer, loader = PrivacyEngine(accountant="rdp").make_private(
        module=plain,
        optimizer=torch.optim.SGD(plain.parameters(), lr=learning),
        data_loader=torch.utils.data.DataLoader(rows, batch_size=math.ceil(len(x) / 10)),
        noise_multiplier=opacus_multiplier(epsilon),
        max_grad_norm=1.0,
    )
    for _ in range(10):
        for one, told in loader:
            optimizer.zero_grad()
            torch.nn.functional.binary_cross_entropy_with_logits(model(one).flatten(), told).backward()
            optimizer.step()
    weights: np.ndarray = torch.cat([one.detach().flatten() for one in plain.parameters()]).numpy()
    return weights


@dataclass(frozen=True)
class Point:
    """What was measured of one table at one ε.

    Attributes:
        table: its title, rows and features.
        exact: the accuracy without privacy.
        found: by way, the accuracies of single runs.
    """

    table: str
    epsilon: float
    exact: float
    found: Mapping[str, list[float]]


def measured(ways: Mapping[str, Way], real: bool) -> list[Point]:
    """Every table at every ε.

    Args:
        ways: in plain.
        real: whether Opacus and the analysis on shares are measured, too.
    """
    points = []
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
            found = {
                name: max(
                    (
                        [accuracy(train(np.random.default_rng(seed))) for seed in range(SEEDS)]
                        for train in way(one, told, epsilon)
                    ),
                    key=np.mean,
                )
                for name, way in ways.items()
            }
            if real:
                found[OPACUS] = max(
                    (
                        [accuracy(opacus(seen, told, epsilon, learning)) for _ in range(RUNS)]
                        for learning in (1.0, 4.0)
                    ),
                    key=np.mean,
                )
                found[SHARES] = [accuracy(on_shares(seen, told, epsilon)) for _ in range(RUNS)]
            points.append(Point(f"{title} ({len(one)}, {seen.shape[1]})", epsilon, best, found))
            print(line(points[-1]), flush=True)
    return points


def line(point: Point) -> str:
    """Of the table, in Markdown."""
    figures = " | ".join(f"{np.mean(one):.3f}" for one in point.found.values())
    return f"| {point.table} | {point.epsilon:g} | {point.exact:.3f} | {figures} |"


def markdown(points: Sequence[Point]) -> str:
    """The table."""
    names = list(points[0].found)
    head = [
        f"| table (rows, features) | ε | no privacy | {' | '.join(names)} |",
        "| --- | --- | --- |" + " --- |" * len(names),
    ]
    return "\n".join([*head, *map(line, points)])


def draw(points: Sequence[Point], path: Path) -> None:
    """Accuracy against ε, one panel for each table; bands are one standard deviation of a single run."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    titles = list(dict.fromkeys(one.table for one in points))
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "mpcpriv"}):
        figure = Figure(figsize=(8, 6), layout="constrained")
        panels = figure.subplots(-(-len(titles) // 2), 2, squeeze=False).flatten()
        for axes, title in zip(panels, titles, strict=False):
            own = [one for one in points if one.table == title]
            epsilons = [one.epsilon for one in own]
            axes.axhline(own[0].exact, color="black", linestyle="--", label="no privacy")
            # Colours that are told apart by those who do not see red and green (Okabe and Ito).
            for name, colour, marker in ((OPACUS, "#d55e00", "s"), (SHARES, "#0072b2", "o")):
                means = np.array([np.mean(one.found[name]) for one in own])
                spreads = np.array([np.std(one.found[name], ddof=1) for one in own])
                axes.plot(epsilons, means, color=colour, marker=marker, label=name)
                axes.fill_between(epsilons, means - spreads, means + spreads, color=colour, alpha=0.2)
            axes.set(title=title, xlabel="ε", ylabel="accuracy on unseen rows", xscale="log")
            low, high = axes.get_ylim()
            axes.set_ylim(low - 0.02, high + 0.02)
            axes.set_xticks(epsilons, [f"{one:g}" for one in epsilons])
            axes.minorticks_off()
        for axes in panels[len(titles) :]:
            axes.remove()
        panels[0].legend(loc="lower right")
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # Opacus warns of its own dependencies
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shares", action="store_true", help="runs Opacus, and the analysis on shares, too")
    parser.add_argument("--write", action="store_true", help=f"writes the table to {PAGE.name}")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draws accuracy against ε")
    chosen = parser.parse_args()
    whole = chosen.shares or chosen.write
    everything = measured(WAYS if whole or not chosen.plot else {}, bool(whole or chosen.plot))
    if chosen.plot:
        draw(everything, chosen.plot)
    if chosen.write:
        before, _, after = PAGE.read_text(encoding="utf-8").split(MARK)
        PAGE.write_text(f"{before}{MARK}\n{markdown(everything)}\n{MARK}{after}", encoding="utf-8")
    else:
        print(markdown(everything))

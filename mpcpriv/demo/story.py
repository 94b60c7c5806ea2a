"""Starts the hospitals, measures the opened model beside scikit-learn's, and tells what happened."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mpcpriv.demo import table
from mpcpriv.demo.hospital import Outcome, Recipe, hospital
from mpcpriv.errors import MpcprivError, UsageError
from mpcpriv.party.launch import launch
from mpcpriv.types import DEALER, NAMES

TOLERANCE: Final = 0.01
"""How far the held-out accuracy may be from scikit-learn's."""

_MB = 1e6


@dataclass(frozen=True)
class Comparison:
    """Two models on the public held-out patients.

    Attributes:
        shared, pooled: accuracy of the model trained on shares, and of scikit-learn's on pooled rows.
        agreeing: patients that both classify alike.
        held_out: patients.
    """

    shared: float
    pooled: float
    agreeing: int
    held_out: int

    @property
    def difference(self) -> float:
        """Of the two accuracies, without sign."""
        return abs(self.shared - self.pooled)

    @property
    def close(self) -> bool:
        """Whether the two accuracies differ by no more than the tolerance."""
        return self.difference <= TOLERANCE


def run(output: Path | None = None, recipe: Recipe | None = None) -> Comparison:
    """The whole demo: data, parties, model, comparison, on stdout.

    Args:
        output: a folder for model.json; None saves nothing.
        recipe: how to train; the default is the shipped one.

    Raises:
        UsageError: scikit-learn is missing, or `output` is not a folder that can be written.
        PartyFailed: a party or the dealer failed.
    """
    began = time.perf_counter()
    console = Console(highlight=False)
    if recipe is None:
        recipe = Recipe(blocks=(sys.stdout.encoding or "").lower().startswith("utf"))
    if output is not None:
        _make_folder(output)
    features, labels = table.load()
    *hospitals, held_out = table.split(labels, recipe.salt)
    names = NAMES[: len(hospitals)]
    _introduce(console, names, hospitals, held_out)

    outcomes: list[Outcome] = launch(hospital, parties=len(hospitals), args=(recipe,))

    model = outcomes[0]
    if any(not np.array_equal(_numbers(model), _numbers(other)) for other in outcomes[1:]):
        raise MpcprivError(
            "the hospitals hold different models: this is a fault in mpcpriv; please report it"
        )
    comparison = compare(model, features, labels, np.concatenate(hospitals), held_out)
    _report(console, names, outcomes, comparison)
    if output is not None:
        path = output / "model.json"
        path.write_text(json.dumps(describe(model, comparison), indent=2) + "\n", encoding="utf-8")
        console.print(f"\nThe model is in {escape(str(path))}.")
    console.print(f"\nDone in {time.perf_counter() - began:.0f} s.")
    return comparison


def compare(
    model: Outcome, features: np.ndarray, labels: np.ndarray, pooled: np.ndarray, held_out: np.ndarray
) -> Comparison:
    """Measures the opened model beside scikit-learn's, which is trained on the rows of all hospitals.

    That is possible here because this table is public; hospitals could not do it.

    Args:
        model: as opened.
        features, labels: the whole table.
        pooled: rows of all hospitals.
        held_out: public rows, on which both models are measured.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    reference: Any = make_pipeline(StandardScaler(), LogisticRegression())
    reference.fit(features[pooled], labels[pooled])
    theirs = reference.predict(features[held_out])
    ours = (table.scale(features[held_out]) @ model.coefficients + model.intercept > 0).astype(int)
    truth = labels[held_out]
    return Comparison(
        shared=float((ours == truth).mean()),
        pooled=float((theirs == truth).mean()),
        agreeing=int((ours == theirs).sum()),
        held_out=len(held_out),
    )


def describe(model: Outcome, comparison: Comparison) -> dict[str, Any]:
    """The model in the units of the table: benign if intercept + sum of coefficient * measurement > 0."""
    coefficients = model.coefficients / table.UNITS
    intercept = model.intercept - float(coefficients @ table.CENTRES)
    return {
        "model": "logistic regression",
        "positive class": table.CLASSES[1],
        "intercept": intercept,
        "coefficients": dict(zip(table.CODEBOOK, coefficients.tolist(), strict=True)),
        "held-out accuracy": comparison.shared,
        "held-out accuracy of scikit-learn on pooled rows": comparison.pooled,
    }


def _numbers(model: Outcome) -> np.ndarray:
    return np.append(model.coefficients, model.intercept)


def _make_folder(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"--output {str(output)!r}: not a folder that can be made ({error.strerror})"
        ) from None


def _introduce(
    console: Console, names: Sequence[str], hospitals: Sequence[np.ndarray], held_out: np.ndarray
) -> None:
    console.print("[bold]Three hospitals, one model, and no row leaves its hospital[/]\n")
    for name, rows in zip(names, hospitals, strict=True):
        console.print(f"  {name:<7} holds {len(rows):>3} patients: 30 measurements and the diagnosis of each")
    console.print(f"  {DEALER:<7} holds nothing; it hands out random numbers that fit together")
    console.print(f"  public  {len(held_out):>9} held-out patients, to measure the model on\n")
    console.print(
        "Each is a process of its own, and they talk gRPC over mutual TLS. They train a logistic "
        "regression on secret shares. Means, spreads, gradients and loss stay secret; only the model "
        "is opened, at the end.\n"
    )


def _report(
    console: Console, names: Sequence[str], outcomes: Sequence[Outcome], comparison: Comparison
) -> None:
    console.print(f"\n[bold]Accuracy on {comparison.held_out} held-out patients[/]\n")
    accuracy = Table()
    for column in ("", "accuracy", "trained on"):
        accuracy.add_column(column, justify="right" if column == "accuracy" else "left")
    accuracy.add_row("[bold]mpcpriv[/]", f"[bold]{comparison.shared:.4f}[/]", "shares of everybody's rows")
    accuracy.add_row("scikit-learn", f"{comparison.pooled:.4f}", "everybody's rows in one place")
    console.print(accuracy)
    verdict, colour = ("within", "green") if comparison.close else ("beyond", "red")
    console.print(
        f"accuracy difference {comparison.difference:.4f}: [{colour}]{verdict} {TOLERANCE}[/]; "
        f"the two agree on {comparison.agreeing} of {comparison.held_out} patients"
    )

    console.print("\n[bold]What it took[/]\n")
    cost = Table()
    cost.add_column("party")
    for column in ("rounds", "MB sent", "MB received", "MB from dealer", "seconds"):
        cost.add_column(column, justify="right")
    for name, outcome in zip(names, outcomes, strict=True):
        sizes = (outcome.sent, outcome.received, outcome.dealt)
        megabytes = [f"{size / _MB:.1f}" for size in sizes]
        cost.add_row(name, f"{outcome.rounds:,}", *megabytes, f"{outcome.seconds:.1f}")
    console.print(cost)

    console.print("\n[bold]What each of them saw[/]\n")
    for name, outcome in zip(names, outcomes, strict=True):
        console.print(
            f"  {name} saw {outcome.messages:,} messages of uniformly random numbers, and the model"
        )
    console.print(f"  {DEALER} saw which operations run on which shapes, and no number of anybody's")

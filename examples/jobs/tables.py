"""The tables of the example jobs: real ones that ship with scikit-learn, statsmodels and lifelines.

Alice, Bob and Carol each hold some rows of four tables (north, south and east), and Alice and Bob different
columns of the same people in a fourth (left and right). Bounds and categories are what owners would agree on:
round numbers around what such a column can be.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROWS = (9, 6, 5)
"""How many of 20 rows in a row are Alice's, Bob's, Carol's."""
_STRIDE = 7
"""Rows go to the three in this order of turns, so that a short table has some for each."""
VISITS = 8
"""Of the 20,190 rows of the visits one in so many is used."""


@dataclass(frozen=True)
class Dataset:
    """A data set of the agreement.

    Attributes:
        name: as agreement and jobs call it.
        owner: whose it is.
        unit: whom a row is about.
        columns: their terms, as an agreement writes them.
        rows: its values, (rows, columns).
    """

    name: str
    owner: str
    unit: str
    columns: Sequence[Mapping[str, Any]]
    rows: Sequence[Sequence[Any]]

    def write(self, path: Path) -> None:
        """Writes it as a new CSV file."""
        with path.open("x", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow([column["name"] for column in self.columns])
            table.writerows(self.rows)


def datasets() -> list[Dataset]:
    """All of them."""
    found = []
    for name, unit, load in (
        ("cancer", "patient", _cancer),
        ("visits", "household-member", _visits),
        ("survival", "person", _survival),
        ("studies", "firm", _studies),
    ):
        columns, rows = load()
        shares: list[list[Sequence[Any]]] = [[], [], []]
        for place, row in enumerate(rows):
            turn = _STRIDE * place % sum(ROWS)
            shares[0 if turn < ROWS[0] else 1 if turn < ROWS[0] + ROWS[1] else 2].append(row)
        for owner, region, own in zip(
            ("alice", "bob", "carol"), ("north", "south", "east"), shares, strict=True
        ):
            found.append(Dataset(f"{name}-{region}", owner, unit, columns, own))
    return [*found, *_person()]


def number(name: str, low: float, high: float, kind: str = "number") -> dict[str, Any]:
    """The terms of a number, or of an integer."""
    return {"name": name, "type": kind, "low": float(low), "high": float(high)}


def boolean(name: str) -> dict[str, Any]:
    """The terms of a yes-or-no."""
    return {"name": name, "type": "boolean"}


def _cancer() -> tuple[list[dict[str, Any]], list[list[Any]]]:
    """Wisconsin's breast tumours (W. H. Wolberg and others, 1995), from scikit-learn."""
    from sklearn.datasets import load_breast_cancer

    table = load_breast_cancer(as_frame=True).frame
    rows = []
    for radius, texture, smoothness, benign in zip(
        table["mean radius"], table["mean texture"], table["mean smoothness"], table["target"], strict=True
    ):
        size = "small" if radius < 12 else "medium" if radius < 16 else "large"
        rows.append([radius, texture, smoothness, 1 - benign, size])
    sizes = {"name": "size", "type": "category", "categories": ["small", "medium", "large"]}
    return [
        number("radius", 5, 30),  # millimetres, as they were digitised
        number("texture", 5, 45),
        number("smoothness", 0.04, 0.18),
        boolean("malignant"),
        sizes,
    ], rows


def _visits() -> tuple[list[dict[str, Any]], list[list[Any]]]:
    """Visits to a doctor in a year, from RAND's Health Insurance Experiment, from statsmodels."""
    from statsmodels.datasets import randhie

    table = randhie.load_pandas().data.iloc[::VISITS]
    rows = [
        [int(visits), coinsurance, income, chronic, int(limited > 0)]
        for visits, coinsurance, income, chronic, limited in zip(
            table["mdvis"], table["lncoins"], table["lpi"], table["disea"], table["physlm"], strict=True
        )
    ]
    return [
        number("visits", 0, 80, "integer"),
        number("coinsurance", 0, math.ceil(math.log(101))),  # log(rate + 1), the rate in percent
        number("income", 0, 8),  # what there is of it: the log of the yearly payment for taking part
        number("chronic", 0, 60),  # an index of chronic diseases
        boolean("physlim"),
    ], rows


def _survival() -> tuple[list[dict[str, Any]], list[list[Any]]]:
    """Weeks until a person released from prison is arrested again (P. H. Rossi and others, 1980)."""
    from lifelines.datasets import load_rossi

    names = ["week", "arrest", "fin", "age", "prio"]
    return [
        number("week", 1, 52, "integer"),
        boolean("arrest"),
        boolean("fin"),  # financial aid
        number("age", 15, 50, "integer"),
        number("prio", 0, 20, "integer"),  # convictions before
    ], load_rossi()[names].to_numpy().tolist()


def _studies() -> tuple[list[dict[str, Any]], list[list[Any]]]:
    """Of each of 11 firms, what investment depends on its value (Y. Grunfeld, 1958), from statsmodels.

    A firm is a study here: the slope of a regression of its own, and its standard error.
    """
    from scipy.stats import linregress
    from statsmodels.datasets import grunfeld

    table = grunfeld.load_pandas().data
    fits = [linregress(own["value"], own["invest"]) for _, own in table.groupby("firm")]
    return [number("effect", -1, 1), number("error", 0.001, 0.5)], [
        [float(fit.slope), float(fit.stderr)] for fit in fits
    ]


def _person() -> list[Dataset]:
    """Diabetes a year later (B. Efron and others, 2004), from scikit-learn; row i of both is person i."""
    from sklearn.datasets import load_diabetes

    table = load_diabetes(as_frame=True, scaled=False).frame
    table["sex"] -= 1
    left = [number("age", 15, 90, "integer"), number("bmi", 15, 45), boolean("sex")]
    right = [number("bp", 50, 140), number("s5", 3, 6.5), number("target", 0, 400)]

    def rows(columns: Sequence[Mapping[str, Any]], of: Mapping[str, Callable[[Any], Any]]) -> list[list[Any]]:
        names = [column["name"] for column in columns]
        return [
            [of.get(name, float)(value) for name, value in zip(names, row, strict=True)]
            for row in table[names].to_numpy().tolist()
        ]

    return [
        Dataset("person-left", "alice", "patient", left, rows(left, {"age": int, "sex": int})),
        Dataset("person-right", "bob", "patient", right, rows(right, {})),
    ]

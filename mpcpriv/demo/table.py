"""Wisconsin's breast-cancer table: what is public about it, and which hospital holds which rows.

The table ships with scikit-learn; the demo writes each hospital's rows into a file of its own.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
from pathlib import Path
from typing import Any, Final

import numpy as np

from mpcpriv.errors import UsageError

# Minimum and maximum of each feature, as printed in the data set's published description (W. H. Wolberg,
# W. N. Street, O. L. Mangasarian, 1995). A codebook: it tells nothing of the rows that are shared here.
CODEBOOK: Final = {
    "mean radius": (6.981, 28.11),
    "mean texture": (9.71, 39.28),
    "mean perimeter": (43.79, 188.5),
    "mean area": (143.5, 2501.0),
    "mean smoothness": (0.053, 0.163),
    "mean compactness": (0.019, 0.345),
    "mean concavity": (0.0, 0.427),
    "mean concave points": (0.0, 0.201),
    "mean symmetry": (0.106, 0.304),
    "mean fractal dimension": (0.05, 0.097),
    "radius error": (0.112, 2.873),
    "texture error": (0.36, 4.885),
    "perimeter error": (0.757, 21.98),
    "area error": (6.802, 542.2),
    "smoothness error": (0.002, 0.031),
    "compactness error": (0.002, 0.135),
    "concavity error": (0.0, 0.396),
    "concave points error": (0.0, 0.053),
    "symmetry error": (0.008, 0.079),
    "fractal dimension error": (0.001, 0.03),
    "worst radius": (7.93, 36.04),
    "worst texture": (12.02, 49.54),
    "worst perimeter": (50.41, 251.2),
    "worst area": (185.2, 4254.0),
    "worst smoothness": (0.071, 0.223),
    "worst compactness": (0.027, 1.058),
    "worst concavity": (0.0, 1.252),
    "worst concave points": (0.0, 0.291),
    "worst symmetry": (0.156, 0.664),
    "worst fractal dimension": (0.055, 0.208),
}

CLASSES: Final = ("malignant", "benign")
"""What the labels 0 and 1 mean."""

SALT: Final = "mpcpriv demo 1"
"""Picks the split: the first number for which no held-out patient stands on the edge between the classes,
where scikit-learn's own stopping rule would decide."""

PATIENT: Final = "patient"
"""The column that says who a row is about."""
DIAGNOSIS: Final = "diagnosis"
"""The column that says which class."""

_TESTED = 0.25
_HOSPITALS = (0.45, 0.33, 0.22)  # of the rows that are not held out
_MARGIN = 0.05


def bounds(feature: str) -> tuple[float, float]:
    """What hospitals would agree on: the published range, which is rounded, a twentieth wider each way."""
    low, high = CODEBOOK[feature]
    margin = _MARGIN * (high - low)
    return low - margin, high + margin


def write(path: Path, rows: np.ndarray, features: np.ndarray, labels: np.ndarray) -> None:
    """Writes these rows of the table as a CSV file: a patient's number, the measurements, the diagnosis.

    Args:
        path: of the new file.
        rows: row numbers.
        features, labels: the whole table, as `load` gives it.
    """
    with path.open("x", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow([PATIENT, *CODEBOOK, DIAGNOSIS])
        for row in rows.tolist():
            table.writerow([row, *features[row].tolist(), CLASSES[labels[row]]])


def load() -> tuple[np.ndarray, np.ndarray]:
    """The features (569, 30), unscaled, and labels (569,), 0 or 1.

    Raises:
        UsageError: scikit-learn is not installed.
    """
    found = importlib.util.find_spec("sklearn")
    if found is None or not found.submodule_search_locations:
        raise UsageError(
            "the demo's data comes with scikit-learn, which is not installed: pip install 'mpcpriv[demo]'"
        )
    # Its file rather than its function: importing scikit-learn takes seconds.
    path = Path(found.submodule_search_locations[0], "datasets", "data", "breast_cancer.csv")
    if path.is_file():
        rows = np.loadtxt(path, delimiter=",", skiprows=1)
        return rows[:, :-1], rows[:, -1].astype(int)
    from sklearn.datasets import load_breast_cancer

    table: Any = load_breast_cancer()
    return table.data, table.target


def split(labels: np.ndarray, salt: str = SALT) -> list[np.ndarray]:
    """Row numbers of the three hospitals, then of the public held-out set: disjoint, and together all.

    The held-out quarter has the classes in proportion. The order of the rows is that of their hashes,
    so it depends on nothing but their number and `salt`.
    """
    order = sorted(range(len(labels)), key=lambda row: hashlib.sha256(f"{salt}:{row}".encode()).digest())
    held_out: set[int] = set()
    for label in (0, 1):
        rows = [row for row in order if labels[row] == label]
        held_out.update(rows[: round(_TESTED * len(rows))])
    rest = np.array([row for row in order if row not in held_out])
    ends = np.round(np.cumsum(_HOSPITALS[:-1]) * len(rest)).astype(int)
    return [*np.split(rest, ends), np.array(sorted(held_out))]

"""The table of functions in docs/functions.md is what the engine does."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def benchmark() -> ModuleType:
    """benchmarks/functions.py, by its path: CrypTen's wheel installs another `benchmarks` package."""
    path = Path(__file__).parents[2] / "benchmarks" / "functions.py"
    spec = importlib.util.spec_from_file_location("functions_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_documented_table_holds() -> None:
    functions = benchmark()
    documented = {
        cells[0]: cells
        for line in functions.TABLE.read_text().splitlines()
        if (cells := line.strip("| ").split(" | "))
    }
    for row in functions.measure(points=4000):
        cells = documented[row.function.name]
        measured = row.line().strip("| ").split(" | ")
        assert measured[:3] == cells[:3], row.function.name
        # Fewer points find a smaller error, but for the luck of rounding: of two units of fixed point, or of
        # the many that some hundred products add up.
        assert row.error <= max(float(cells[3]) + 2 * 2**-16, 1.5 * float(cells[3])), row.function.name
        assert row.error <= 1e-3, row.function.name
        if row.function.varies:
            assert cells[4].startswith("~"), row.function.name
            continue
        assert measured[4] == cells[4], f"{row.function.name}: rounds"
        for place in (5, 6):  # frame headers weigh more with fewer points
            assert 0 <= int(measured[place]) - int(cells[place]) <= 2, row.function.name

"""Tables as data frames of pandas and polars, where these are installed."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mpcpriv.analyses.shown import Table
from mpcpriv.errors import UsageError
from mpcpriv.report.export import arrow

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


def to_pandas(table: Table) -> pd.DataFrame:
    """A table as a frame of pandas.

    Raises:
        UsageError: pandas is not installed.
    """
    _library("pandas")
    frame: pd.DataFrame = arrow(table).to_pandas()
    return frame


def to_polars(table: Table) -> pl.DataFrame:
    """A table as a frame of polars.

    Raises:
        UsageError: polars is not installed.
    """
    frame: pl.DataFrame = _library("polars").from_arrow(arrow(table))
    return frame


def named(tables: Sequence[Table], title: str | None) -> Table:
    """The table of this title; the first one for None.

    Raises:
        UsageError: there is none of this title.
    """
    for table in tables:
        if title is None or table.title == title:
            return table
    known = ", ".join(repr(table.title) for table in tables)
    raise UsageError(f"table {title!r}: there is none; there are {known or 'no tables'}")


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise UsageError(f"frames of {name} need it, and it is not here: pip install {name}") from None

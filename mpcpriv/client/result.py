"""A result in one's hands: a dictionary that can show itself."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mpcpriv.analyses.shown import Table
from mpcpriv.job.model import Job
from mpcpriv.report import Report
from mpcpriv.report.display import tables

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


class Result(dict[str, Any]):
    """By name, what the recipients were told; with the tables and plots that it is shown as.

    Args:
        job: what was asked.
        document: all that was released.
    """

    def __init__(self, job: Job, document: Mapping[str, Any]) -> None:
        super().__init__(document["result"])
        self._job = job
        self._document = document

    @cached_property
    def report(self) -> Report:
        """The result with where it comes from and what is promised of it: `text()`, `write_html(path)` ..."""
        return Report.of(self._job, self._document)

    @property
    def tables(self) -> list[Table]:
        """The tables that it is shown as, and then what is drawn, as tables."""
        report = self.report
        return [*report.tables, *tables(report.plots)]

    def to_pandas(self, title: str | None = None) -> pd.DataFrame:
        """One of the tables as a frame of pandas.

        Args:
            title: of the table; None is the first.

        Raises:
            UsageError: pandas is not installed, or there is no such table.
        """
        from mpcpriv.report.frames import named, to_pandas

        return to_pandas(named(self.tables, title))

    def to_polars(self, title: str | None = None) -> pl.DataFrame:
        """One of the tables as a frame of polars.

        Args:
            title: of the table; None is the first.

        Raises:
            UsageError: polars is not installed, or there is no such table.
        """
        from mpcpriv.report.frames import named, to_polars

        return to_polars(named(self.tables, title))

    def _repr_html_(self) -> str:
        """In a notebook."""
        from mpcpriv.report.html import table_html

        return "".join(map(table_html, self.report.tables))

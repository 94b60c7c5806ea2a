"""The most frequent category of a column, and nothing else: not how frequent, and of no other one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final

from mpcpriv.analyses.analysis import Answer, Asked
from mpcpriv.analyses.count_by_category import ANALYSIS as COUNTS
from mpcpriv.analyses.query import Noised, Query
from mpcpriv.documents import Document
from mpcpriv.job.model import Job


class Parameters(Document):
    """None."""


class MostFrequentCategory:
    """Counts by category, of which the largest is found on shares."""

    name: Final = "most-frequent-category"
    title: Final = "which category, or combination of categories, most rows fall into"
    text: Final = (
        "The counts of `count-by-category` stay shared; the largest is found on shares, and only which one "
        "it is is opened; of equal ones the first. With differential privacy, every party adds one-sided "
        "geometric noise to all counts before (report-noisy-max, the form of the exponential mechanism that "
        "is known as permute-and-flip): the price is that of one count, however many categories there are, "
        "and the agreement's mechanism has to be discrete-laplace, for pure differential privacy. A "
        "category that is ahead of the others by many times 1 / epsilon rows is found nearly always."
    )
    parameters: Final = Parameters
    example: Final = """\
analysis = "most-frequent-category"
inputs = [
    { dataset = "north", columns = ["diagnosis"] },
    { dataset = "south", columns = ["diagnosis"] },
]
"""

    def outputs(self, job: Job) -> Mapping[str, str]:
        """By name, what the recipients learn."""
        columns = ", ".join(dict.fromkeys(column for one in job.inputs for column in one.columns))
        said = "nearly always, the noise decides else" if job.release.epsilon is not None else "exactly"
        return {
            "rows": "how many rows all data sets have together",
            "category": f"the most frequent combination of categories of {columns}, {said}",
        }

    def query(self, asked: Asked) -> Query:
        """See `Private.query`."""
        counts = COUNTS.query(dataclasses.replace(asked, parameters=COUNTS.parameters()))
        told = counts.read(Noised(counts.low, 0.0))
        cells, rows = told["cells"], told["rows"]
        assert isinstance(cells, list)

        def read(noised: Noised) -> Answer:
            return {"rows": rows, "category": cells[int(noised.values[0])]}

        return Query(counts.low, counts.high, counts.contributions, read, l1=counts.l1, choose=True)


ANALYSIS: Final = MostFrequentCategory()

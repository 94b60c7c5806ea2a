"""Tests that compare the means of groups: which groups, and what is told of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.analyses.analysis import Answer, Plain
from mpcpriv.analyses.groups import Groups, OfGroups, Value
from mpcpriv.analyses.shown import Bars, Table
from mpcpriv.errors import UsageError

DESCRIBED: Final[Mapping[str, str]] = {
    "rows": "how many rows all data sets have together",
    "groups": "the names of the groups",
    "counts": "how many rows each has",
    "means": "of each",
    "deviations": "of each, the standard deviation",
}
"""What `described` returns, for `outputs`."""


class OfMeans(OfGroups):
    """A test of the means of one value in the groups that the column `group` makes, or of all rows."""

    def grouping(self, columns: Mapping[str, ColumnTerms], parameters: Any) -> Sequence[str]:
        """See `OfGroups.grouping`."""
        return [name for name in columns if name == parameters.group]

    def check(self, by: Sequence[str], values: Sequence[Value], parameters: Any) -> None:
        """See `OfGroups.check`."""
        del values
        if parameters.group and not by:
            raise UsageError(f"{self.name}: group {parameters.group!r} is none of the columns")


def described(groups: Groups) -> dict[str, Plain]:
    """Each group by itself, in the units of the data: part of an answer."""
    means, spread = groups.of_z()
    deviations = np.sqrt(spread / (groups.counts[:, None] - 1))
    return {
        "rows": groups.rows,
        "groups": list(groups.names if groups.sizes else groups.values),
        "counts": np.rint(groups.counts).astype(int).tolist(),
        "means": (groups.centre + groups.unit * means)[:, 0].tolist(),
        "deviations": (groups.unit * deviations)[:, 0].tolist(),
    }


def shown_groups(answer: Answer) -> tuple[Table, Bars]:
    """What `described` returned is in the answer."""
    told: dict[str, Any] = dict(answer)
    columns = {"": told["groups"], "n": told["counts"], "mean": told["means"], "std": told["deviations"]}
    return Table("Groups", columns), Bars("Means", told["groups"], told["means"])

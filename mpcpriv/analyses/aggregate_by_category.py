"""Group by: counts, sums, means and variances of columns, by category."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import numpy as np
from pydantic import Field

from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.analyses.analysis import Answer, Asked
from mpcpriv.analyses.groups import Groups, OfGroups, Value
from mpcpriv.analyses.inference import quantile
from mpcpriv.analyses.shown import Bars, Shown, Table
from mpcpriv.documents import Document
from mpcpriv.errors import UsageError
from mpcpriv.job.model import Column as ColumnName
from mpcpriv.job.model import Job

_LEAST: Final = 5.0
"""Standard deviations of the noise that a noised count is above 0 where means are told."""


class Parameters(Document):
    """What a job can set.

    Attributes:
        by: the columns by whose categories rows are put into groups; all categories where it is left out.
    """

    by: Annotated[list[ColumnName], Field(min_length=1)] | None = None


class AggregateByCategory(OfGroups):
    """As pandas's `groupby(...).agg(["count", "sum", "mean", "var", "std"])`."""

    name: Final = "aggregate-by-category"
    title: Final = "count, sum, mean and variance of columns, for each category or combination of categories"
    text: Final = (
        "Groups are the combinations of the agreed categories of the columns in `by` (booleans are 0 and 1), "
        "10,000 at most; of all other columns the sum, the mean, the variance of a sample (divided by count "
        "- 1) and the standard deviation are told of each group. Opened are of each group the count, and for "
        "each column the sums of x and x^2, which what is told determines and which determine it. Without "
        "noise, groups with fewer rows than the agreement allows to be shown, and with them the smallest "
        "other one, have a count of -1, and nothing else of them is opened. Groups with fewer than two rows "
        "have no variance and are left out of what is told of columns. The sums are exact to 2^-37 of the "
        "bounds' width per row where rows are split, to 2^-18 where columns are. With differential privacy "
        "(rows split) noise is added to all counts and sums at once, on a scale where the agreed bounds are "
        "-1 and 1, of which one row changes those of one group; means are told of groups whose count is at "
        "least five standard deviations of the noise. The intervals of the means hold the chance of the "
        "sample, and with noise, that, too."
    )
    parameters: Final = Parameters
    example: Final = """\
analysis = "aggregate-by-category"
inputs = [
    { dataset = "north", columns = ["region", "age", "weight"] },
    { dataset = "south", columns = ["region", "age", "weight"] },
]
parameters = { by = ["region"] }
"""

    def outputs(self, job: Job) -> Mapping[str, str]:
        """By name, what the recipients learn."""
        noised = job.release.epsilon is not None
        told = {
            "rows": "how many rows all data sets have together",
            "cells": "the names of all groups",
            "counts": "how many rows are in each; -1 where that is suppressed",
            "group": "of each line of what follows, the group",
            "column": "of each line, the column",
            "count": "the rows of the group",
            "sum": "of the column over the rows of the group",
            "mean": "their mean",
            "variance": "their sample variance",
            "deviation": "its square root",
            "low": "the lower end of a 95 % confidence interval of the mean",
            "high": "its upper end",
        }
        if noised:
            told |= {
                "counts": "how many rows are in each, with noise",
                "margin": "how far a true count is from the one that is told, at most, in 95 % of cases",
                "sum_noise": "of the noise in each sum, the standard deviation",
                "mean_noise": "of the noise in each mean, the standard deviation",
                "variance_noise": "of the noise in each variance, the standard deviation",
            }
        return told

    def grouping(self, columns: Mapping[str, ColumnTerms], parameters: Parameters) -> Sequence[str]:
        """See `OfGroups.grouping`."""
        if parameters.by is None:
            return [name for name, column in columns.items() if column.type == "category"]
        return [name for name in columns if name in parameters.by]

    def check(self, by: Sequence[str], values: Sequence[Value], parameters: Parameters) -> None:
        """See `OfGroups.check`."""
        missing = sorted(set(parameters.by or []) - set(by))
        if missing or not by:
            named = (
                f"{', '.join(missing)} in `by` are none of the columns" if missing else "there is no category"
            )
            raise UsageError(f"{self.name}: {named}; name categories or booleans that are among the columns")
        if not values:
            raise UsageError(
                f"{self.name}: there is no column but those that groups are made of; count-by-category "
                "counts them"
            )

    def tell(self, asked: Asked, groups: Groups) -> Answer:
        """See `OfGroups.tell`."""
        noise = groups.deviation
        told = np.flatnonzero(groups.counts >= max(2.0, _LEAST * noise))
        count = groups.counts[told, None]
        # Of z: noise makes the sums of squares beyond the means only as wrong as the bounds allow.
        mean = groups.sums[told] / count
        square = groups.squares[told] / count
        spread = np.clip(square - mean**2, 0, None) * count / (count - 1)
        # By the delta method, with noise e, f, g in count, sum and 2 * square - count.
        mean_noise = noise / count * np.sqrt(1 + mean**2)
        spread_noise = noise / count * np.sqrt(0.25 + 4 * mean**2 + (0.5 - square + 2 * mean**2) ** 2)
        margin = _quantile(groups, count) * np.sqrt(spread / count + mean_noise**2)
        centre, unit = groups.centre, groups.unit
        names = [groups.names[place] for place in told for _ in groups.values]
        answer: dict[str, Any] = {
            "rows": groups.rows,
            "cells": list(groups.names),
            "counts": np.rint(groups.counts).astype(int).tolist(),
            "group": names,
            "column": list(groups.values) * len(told),
            "count": np.rint(np.repeat(count, len(groups.values))).astype(int).tolist(),
            "sum": (count * centre + unit * groups.sums[told]).flatten().tolist(),
            "mean": (centre + unit * mean).flatten().tolist(),
            "variance": (unit**2 * spread).flatten().tolist(),
            "deviation": (unit * np.sqrt(spread)).flatten().tolist(),
            "low": (centre + unit * (mean - margin)).flatten().tolist(),
            "high": (centre + unit * (mean + margin)).flatten().tolist(),
        }
        if asked.noised:
            sum_noise = np.broadcast_to(noise * np.sqrt(centre**2 + unit**2), mean.shape)
            answer |= {
                "margin": quantile() * noise,
                "sum_noise": sum_noise.flatten().tolist(),
                "mean_noise": (unit * mean_noise).flatten().tolist(),
                "variance_noise": (unit**2 * spread_noise).flatten().tolist(),
            }
        return answer

    def show(self, answer: Answer) -> Sequence[Shown]:
        """See `Showing.show`."""
        told: dict[str, Any] = dict(answer)
        notes = [f"counts within {told['margin']:.1f}, in 95 % of cases"] if "margin" in told else []
        left = len(told["cells"]) - len(set(told["group"]))
        if left:
            notes.append(f"{left} groups are not shown: suppressed, or with too few rows")
        shown: list[Shown] = []
        for column in dict.fromkeys(told["column"]):
            places = [place for place, name in enumerate(told["column"]) if name == column]
            heads = {"": "group", "count": "count", "sum": "sum", "mean": "mean", "std": "deviation"}
            heads |= {"[0.025": "low", "0.975]": "high"}
            columns = {head: [told[name][place] for place in places] for head, name in heads.items()}
            margins = [told["high"][place] - told["mean"][place] for place in places]
            shown.append(Table(f"{column} by group", columns, notes))
            shown.append(Bars(f"Mean of {column} by group", columns[""], columns["mean"], margins))
        return shown


def _quantile(groups: Groups, count: np.ndarray) -> Any:
    """Student's for the sample alone; with noise, groups have so many rows that it is the normal one."""
    from scipy import special

    return quantile() if groups.deviation else special.stdtrit(count - 1, 0.975)


ANALYSIS: Final = AggregateByCategory()

"""Pearson's chi-squared tests: of independence, and of goodness of fit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import numpy as np
from pydantic import Field

from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.analyses.analysis import Answer, Asked
from mpcpriv.analyses.feature import categories
from mpcpriv.analyses.groups import Groups, OfGroups, Value
from mpcpriv.analyses.inference import quantile
from mpcpriv.analyses.outline import together
from mpcpriv.analyses.shown import Bars, Shown, Table
from mpcpriv.analyses.simulated import beyond, table_draws
from mpcpriv.documents import Document
from mpcpriv.errors import UsageError
from mpcpriv.job.model import Job

_ROUNDED: Final = 1e-6
"""How far from 1 the sum of probabilities may be that somebody wrote down."""


class Parameters(Document):
    """What a job can set.

    Attributes:
        probabilities: of one column: of each category, in the order of the agreement; all the same if it is
        left
            out.
        correction: Yates's, of a table of two by two without noise.
    """

    probabilities: Annotated[list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=2)] | None = None
    correction: bool = True


class ChiSquared(OfGroups):
    """As scipy's `chi2_contingency` and `chisquare`, and R's `chisq.test`."""

    name: Final = "chi-squared"
    title: Final = "whether two categories are independent, or one has given frequencies: chi-squared"
    text: Final = (
        "Of two columns, Pearson's test of independence, of two by two with Yates's correction; of one, "
        "the test of goodness of fit to given probabilities. The table of counts is what is opened; all "
        "else follows from it. Categories without rows are left out. Where a count is less than the "
        "agreement allows to be shown, the test is refused: without that cell it would be another. With "
        "Cramer's V (of one column Cohen's w), without the correction. With differential privacy (rows "
        "split), noise is added to each count, and the p-value is from what the statistic is in 9,999 "
        "tables that are drawn with the same margins, as independent, and with fresh noise (Gaboardi and "
        "others, 2016): so it is not below 0.0001. Counts that are expected below 5 make p-values "
        "approximate; it is told how many there are."
    )
    parameters: Final = Parameters
    example: Final = """\
analysis = "chi-squared"
inputs = [
    { dataset = "north", columns = ["region", "ill"] },
    { dataset = "south", columns = ["region", "ill"] },
]
"""

    def outputs(self, job: Job) -> Mapping[str, str]:
        """By name, what the recipients learn."""
        two = len({column for one in job.inputs for column in one.columns}) > 1
        told = {
            "rows": "how many rows all data sets have together",
            "categories": "of the first column, those that are in the table",
            **({"others": "of the second column, those that are in the table"} if two else {}),
            "counts": "the table, row by row",
            "expected": "the counts that are expected where the hypothesis holds",
            "small": "how many of them are below 5",
            "statistic": "chi-squared",
            "degrees": "of freedom",
            "p_value": "of the test",
            "cramers_v" if two else "cohens_w": "the size of the effect",
        }
        if job.release.epsilon is not None:
            told["margin"] = "how far a true count is from the one that is told, at most, in 95 % of cases"
        return told

    def grouping(self, columns: Mapping[str, ColumnTerms], parameters: Parameters) -> Sequence[str]:
        """See `OfGroups.grouping`."""
        sizes = [len(categories(column)) for column in columns.values()]
        given = parameters.probabilities
        if given is not None and sizes != [len(given)]:
            raise UsageError(
                f"{self.name}: {len(given)} probabilities, which are for one column of as many categories"
            )
        return list(columns)

    def check(self, by: Sequence[str], values: Sequence[Value], parameters: Parameters) -> None:
        """See `OfGroups.check`."""
        del values
        if len(by) > 2:
            raise UsageError(f"{self.name}: {len(by)} columns; it takes one, or two")
        given = parameters.probabilities
        if given is not None and abs(math.fsum(given) - 1) > _ROUNDED:
            raise UsageError(f"{self.name}: the probabilities add up to {math.fsum(given):g}, not to 1")

    def tell(self, asked: Asked, groups: Groups) -> Answer:
        """See `OfGroups.tell`."""
        first, second = _categories(asked, len(groups.sizes))
        table = groups.whole(self.name).counts.reshape(len(first), -1)
        given = asked.parameters.probabilities
        if second and not asked.noised:
            lines, across = table.sum(1) > 0, table.sum(0) > 0
            first = [name for name, there in zip(first, lines, strict=True) if there]
            second = [name for name, there in zip(second, across, strict=True) if there]
            table = table[lines][:, across]
        degrees = (len(first) - 1) * (max(len(second), 2) - 1)
        if not degrees:
            raise UsageError(f"{self.name}: all rows are in one category; there is nothing to test")
        least = 1.0 if asked.noised else 0.0
        chances = np.array(given or [1 / len(first)] * len(first))[:, None] / math.fsum(given or [1.0])
        expected = (
            _independent(table, least) if second else np.broadcast_to(chances * groups.rows, table.shape)
        )
        statistic = float(_statistic(table - expected, expected))
        effect = math.sqrt(statistic / groups.rows / max(min(len(first), len(second)) - 1, 1))
        told: dict[str, Any] = {
            "rows": groups.rows,
            "categories": first,
            **({"others": second} if second else {}),
            "counts": np.rint(table).astype(int).flatten().tolist(),
            "expected": expected.flatten().tolist(),
            "small": int((expected < 5).sum()),
            "degrees": degrees,
            "cramers_v" if second else "cohens_w": effect,
        }
        if asked.noised:
            drawn = table_draws(groups, (expected / expected.sum()).flatten()).reshape(-1, *table.shape)
            there = _independent(drawn, least) if second else expected
            under = _statistic(drawn - there, there)
            margin = quantile() * groups.deviation
            return {**told, "statistic": statistic, "p_value": beyond(under, statistic), "margin": margin}
        from scipy import special

        if second and degrees == 1 and asked.parameters.correction:
            apart = np.abs(table - expected)
            statistic = float(_statistic(np.maximum(apart - 0.5, 0), expected))
        return {**told, "statistic": statistic, "p_value": float(special.chdtrc(degrees, statistic))}

    def show(self, answer: Answer) -> Sequence[Shown]:
        """See `Showing.show`."""
        told: dict[str, Any] = dict(answer)
        names, others = told["categories"], told.get("others", [""])
        tables = []
        for title, what in (("Counts", "counts"), ("Expected counts", "expected")):
            cells = np.array(told[what], dtype=object).reshape(len(names), -1)
            columns = {other or "rows": cells[:, place].tolist() for place, other in enumerate(others)}
            tables.append(Table(title, {"": names, **columns}))
        effect = "cramers_v" if "cramers_v" in told else "cohens_w"
        test = {
            "chi-squared": [told["statistic"]],
            "df": [told["degrees"]],
            "p": [told["p_value"]],
            "Cramer's V" if effect == "cramers_v" else "Cohen's w": [told[effect]],
        }
        notes = [f"{told['small']} expected counts are below 5"] if told["small"] else []
        if "margin" in told:
            notes.append(f"counts within {told['margin']:.1f}, in 95 % of cases")
        shown: list[Shown] = [*tables, Table("Chi-squared test", test, notes)]
        if len(others) == 1:
            shown.append(Bars("Counts", names, [float(count) for count in told["counts"]]))
        return shown


def _categories(asked: Asked, columns: int) -> tuple[list[str], list[str]]:
    found = [categories(one) for one in together(asked.tables)[0].columns.values()]
    return found[0], found[1] if columns > 1 else []


def _independent(table: np.ndarray, least: float) -> np.ndarray:
    """The counts that are expected of tables (..., r, c) with these margins, no smaller than this."""
    # Noise can leave a margin with less than nothing.
    lines, across = (np.clip(table.sum(axis, keepdims=True), 0.5, None) for axis in (-1, -2))
    shares = lines / lines.sum(-2, keepdims=True) * across / across.sum(-1, keepdims=True)
    expected: np.ndarray = np.maximum(shares * table.sum((-1, -2), keepdims=True), least)
    return expected


def _statistic(apart: np.ndarray, expected: np.ndarray) -> Any:
    return (apart**2 / expected).sum((-1, -2))


ANALYSIS: Final = ChiSquared()

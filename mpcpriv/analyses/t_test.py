"""Student's and Welch's t-tests: of two groups, of pairs, of one sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

import numpy as np
from pydantic import model_validator

from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.analyses.analysis import Answer, Asked
from mpcpriv.analyses.groups import Groups, Value, plain
from mpcpriv.analyses.inference import quantile, two_sided
from mpcpriv.analyses.means import DESCRIBED, OfMeans, described, shown_groups
from mpcpriv.analyses.shown import Shown, Table
from mpcpriv.analyses.simulated import beyond, normal_draws, testable
from mpcpriv.documents import Document
from mpcpriv.errors import UsageError
from mpcpriv.job.model import Column as ColumnName
from mpcpriv.job.model import Job


class Parameters(Document):
    """What a job can set.

    Attributes:
        value: the column that is tested.
        group: whose two groups are compared: a boolean, or a category of two.
        paired: a column; tested are the differences, `value` less it. Neither this nor `group`: one sample.
        mean: of pairs and of one sample, the mean that is tested for; for groups, the difference of means.
        pooled: whether the groups are taken to have one variance (Student), or two (Welch).
    """

    value: ColumnName
    group: ColumnName | None = None
    paired: ColumnName | None = None
    mean: float = 0.0
    pooled: bool = False

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.group and self.paired:
            raise ValueError("group and paired are two tests; give one of them")
        if len({self.value, self.group, self.paired} - {None}) < 1 + bool(self.group or self.paired):
            raise ValueError("value, group and paired are different columns")
        return self


class TTest(OfMeans):
    """As scipy's `ttest_ind`, `ttest_rel` and `ttest_1samp`, and R's `t.test`."""

    name: Final = "t-test"
    title: Final = "whether the means of two groups, or of pairs, differ: Welch's and Student's t-test"
    text: Final = (
        "With `group`, the mean of the first category less that of the second: Welch's test, or with "
        "`pooled` Student's; with `paired`, the mean of the differences of two columns; with neither, "
        "that of one. Two-sided, with a 95 % confidence interval of the difference, and Cohen's d: the "
        "difference over the pooled standard deviation (of pairs, that of the differences). Opened are of "
        "each group the count, the sum and the sum of squares, which counts, means and standard "
        "deviations determine; where a group has fewer rows than the agreement allows to be shown, the "
        "test is refused. Values are rounded to 2^-18 of the bounds' width where columns are split. With "
        "differential privacy (rows split), noise is added to these sums, and p-value and interval are "
        "from what the same statistic is under 9,999 draws of normally distributed rows with fresh noise: "
        "so no p-value is below 0.0001."
    )
    parameters: Final = Parameters
    example: Final = """\
analysis = "t-test"
inputs = [
    { dataset = "north", columns = ["weight", "treated"] },
    { dataset = "south", columns = ["weight", "treated"] },
]
parameters = { value = "weight", group = "treated" }
"""

    def outputs(self, job: Job) -> Mapping[str, str]:
        """By name, what the recipients learn."""
        told = {
            **DESCRIBED,
            "difference": "of the means, or of the mean from the one that is tested for",
            "standard_error": "of the difference",
            "statistic": "t",
            "degrees": "of freedom",
            "p_value": "two-sided",
            "low": "the lower end of a 95 % confidence interval of the difference",
            "high": "its upper end",
            "cohens_d": "the difference in standard deviations; not there where noise leaves none",
        }
        if job.release.epsilon is not None:
            del told["degrees"]
            told["noise"] = "of the noise in the difference, the standard deviation"
        return told

    def values(self, columns: Mapping[str, ColumnTerms], parameters: Parameters) -> Sequence[Value]:
        """See `OfGroups.values`."""
        if parameters.paired is None:
            found = plain(parameters.value)
        else:
            name = f"{parameters.value} - {parameters.paired}"
            found = Value(name[:128], {parameters.value: 1.0, parameters.paired: -1.0})
        found.terms(columns)
        return [found]

    def tell(self, asked: Asked, groups: Groups) -> Answer:
        """See `OfGroups.tell`."""
        if groups.sizes not in ((), (2,)):
            raise UsageError(
                f"{self.name}: a column of {groups.sizes[0]} categories; see anova, or name one of two"
            )
        testable(groups.whole(self.name), self.name)
        pooled, unit = asked.parameters.pooled, float(groups.unit[0])
        tested = (asked.parameters.mean - (0.0 if groups.sizes else float(groups.centre[0]))) / unit
        difference, error, degrees, size, noise = _test(groups, pooled, tested)
        if not error > 0 or not (size > 0 or asked.noised):
            raise UsageError(f"{self.name}: all values of a group are the same; there is no t")
        statistic = float(difference / error)
        means, spread = groups.of_z()
        variances = spread / (groups.counts[:, None] - 1)
        told: dict[str, Any] = {
            **described(groups),
            "difference": float(difference * unit) + (asked.parameters.mean if groups.sizes else 0.0),
            "standard_error": float(error * unit),
            "statistic": statistic,
        }
        if size > 0:  # noise may leave no variance
            told["cohens_d"] = float(difference / size)
        if not asked.noised:
            p_value, margin = float(two_sided(statistic, float(degrees))), quantile(float(degrees))
            told["degrees"] = float(degrees)
        else:
            middle = _common(groups, means) if groups.sizes else tested
            drawn = normal_draws(groups, np.full_like(means, middle), variances)
            found = _test(drawn, pooled, 0.0 if groups.sizes else tested)
            under = np.abs(found[0] / found[1])
            p_value, margin = beyond(under, abs(statistic)), float(np.quantile(under, 0.95))
            told["noise"] = float(noise * unit)
        ends = {"low": -1, "high": 1}
        return {
            **told,
            "p_value": p_value,
            **{
                name: told["difference"] + end * margin * told["standard_error"] for name, end in ends.items()
            },
        }

    def show(self, answer: Answer) -> Sequence[Shown]:
        """See `Showing.show`."""
        told: dict[str, Any] = dict(answer)
        groups, means = shown_groups(answer)
        heads = {
            "difference": "difference",
            "std err": "standard_error",
            "t": "statistic",
            "df": "degrees",
            "P>|t|": "p_value",
            "[0.025": "low",
            "0.975]": "high",
            "Cohen's d": "cohens_d",
        }
        test = {head: [told[name]] for head, name in heads.items() if name in told}
        notes = [f"noise of {told['noise']:.3g} is part of the standard error"] if "noise" in told else []
        return [groups, Table("t-test", test, notes), means]


def _test(groups: Groups, pooled: bool, tested: float) -> tuple[Any, Any, Any, Any, Any]:
    """Of z, (...,) each, of counts (..., g): the difference less the one tested for, its standard error,
    degrees of freedom, the standard deviation that it is measured by, and that of its noise.
    """
    counts, sums, squares = groups.counts, groups.sums[..., 0], groups.squares[..., 0]
    means = sums / counts
    spread = np.clip(squares - counts * means**2, 0, None)
    variances = spread / (counts - 1)
    # By the delta method; of a single group the count is public.
    noises = (groups.deviation / counts) ** 2 * (1 + means**2 * bool(groups.sizes))
    noise = noises.sum(-1)
    if not groups.sizes:
        error = np.sqrt(variances[..., 0] / counts[..., 0] + noise)
        return means[..., 0] - tested, error, counts[..., 0] - 1, np.sqrt(variances[..., 0]), np.sqrt(noise)
    common = spread.sum(-1) / (counts.sum(-1) - 2)
    parts = variances / counts
    if pooled:
        error, degrees = common * (1 / counts).sum(-1), counts.sum(-1) - 2
    else:
        error = parts.sum(-1)
        with np.errstate(invalid="ignore"):
            degrees = error**2 / (parts**2 / (counts - 1)).sum(-1)
    return (
        means[..., 0] - means[..., 1] - tested,
        np.sqrt(error + noise),
        degrees,
        np.sqrt(common),
        np.sqrt(noise),
    )


def _common(groups: Groups, means: np.ndarray) -> float:
    """The mean of all rows."""
    return float((groups.counts @ means[:, 0]) / groups.counts.sum())


ANALYSIS: Final = TTest()

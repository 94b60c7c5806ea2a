"""Meta-analysis: the effects of several studies put together, with fixed and with random effects."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.analyses.analysis import Answer, Asked, Context, Opened
from mpcpriv.analyses.feature import Feature, plain
from mpcpriv.analyses.inference import quantile, two_sided
from mpcpriv.analyses.newton import free
from mpcpriv.analyses.outline import Outline, together
from mpcpriv.analyses.shown import Forest, Shown, Table
from mpcpriv.data.scale import Scale
from mpcpriv.documents import Document
from mpcpriv.errors import UsageError
from mpcpriv.job.model import Column as ColumnName
from mpcpriv.job.model import Job

if TYPE_CHECKING:
    from mpcpriv.analyses.table import Table as Shared
    from mpcpriv.engine.tensor import SharedTensor

_ROOT: Final = 64
"""The root of the largest weight: then weights keep their digits, and their squares stay in the ring."""
_WIDEST: Final = 1000.0
"""Of the agreed bounds of standard errors, what the upper one may be of the lower."""
_FARTHEST: Final = float(1 << 22)
"""Of the variance between studies, times `_ROOT`, within a study of weight 1."""
_MOST: Final = 1 << 13
"""Studies."""
_WEIGHT: Final = "\x1f"
"""What is made of the standard error: no column's name has this character."""


class Parameters(Document):
    """What a job can set.

    Attributes:
        effect: the column of estimates: a mean difference, a log odds ratio, a log hazard ratio.
        standard_error: the column of their standard errors.
        show_studies: whether each study's effect and standard error are opened, too.
    """

    effect: ColumnName
    standard_error: ColumnName
    show_studies: bool = False


class MetaAnalysis:
    """Of all rows, each of which is a study."""

    name: Final = "meta-analysis"
    title: Final = "effects of several studies put together: fixed and random effects, heterogeneity"
    text: Final = (
        "Each row is a study: its effect, and the standard error of it. Fixed effect: weights 1 / se^2. "
        "Random effects: weights 1 / (se^2 + tau^2), tau^2 by DerSimonian and Laird (1986; statsmodels' "
        "combine_effects with method_re = 'chi2', R's metafor with method = 'DL'), tests and intervals "
        "with the normal distribution. Q is Cochran's, I^2 of Higgins and Thompson (2002), the prediction "
        "interval of Higgins, Thompson and Spiegelhalter (2009), with k - 2 degrees of freedom. All "
        "weights are made on shares: opened are both pooled effects, the sums of their weights, Q, and the "
        "sum of squared fixed weights, which tau^2 takes; with `show_studies` also each study. With two or "
        "three studies these determine the others' effects for whoever has one of them. The agreement's "
        "minimum cohort counts studies here. Bounds of standard errors are above 0, the upper at most 1000 "
        "times the lower; the narrower, the more digits. Without differential privacy: a row is a whole "
        "study, and what one study can change has to be large. Whoever wants to protect a study's persons "
        "adds noise to its effect before it is put in, and to its standard error what that noise is worth "
        "(examples/private_aggregate.py)."
    )
    parameters: Final = Parameters
    example: Final = """\
analysis = "meta-analysis"
inputs = [
    { dataset = "north", columns = ["effect", "error"] },
    { dataset = "south", columns = ["effect", "error"] },
    { dataset = "east", columns = ["effect", "error"] },
]
parameters = { effect = "effect", standard_error = "error" }
"""

    def outputs(self, job: Job) -> Mapping[str, str]:
        """By name, what the recipients learn."""
        told = {
            "studies": "how many there are",
            "model": "fixed effect, random effects: of each the numbers that follow",
            "estimate": "the pooled effect",
            "standard_error": "of it",
            "statistic": "the effect divided by its standard error",
            "p_value": "of the two-sided test that it is 0",
            "low": "the lower end of its 95 % confidence interval",
            "high": "its upper end",
            "tau2": "the variance of true effects between studies, by DerSimonian and Laird",
            "q": "Cochran's Q: how far effects are apart",
            "q_degrees": "of freedom of it",
            "q_p_value": "of the test that all studies have the same effect",
            "i2": "what part of the variance of effects is between studies, in per cent",
            "h2": "Q divided by its degrees of freedom",
            "prediction": "the 95 % prediction interval of a further study's effect; of three studies on",
        }
        if job.parameters.get("show_studies"):
            told |= {
                "study": "what each study is called: its data set, and its row",
                "study_effect": "its effect",
                "study_error": "its standard error",
                "study_low": "the lower end of its 95 % confidence interval",
                "study_high": "its upper end",
                "fixed_weight": "of each study, in per cent",
                "random_weight": "of each study, in per cent",
            }
        return told

    def features(self, table: Outline, parameters: Parameters) -> Sequence[Feature]:
        """See `Derived.features`: the effect, and one over its standard error."""
        self._checked(table.columns, parameters)
        effect, error = table.columns[parameters.effect], table.columns[parameters.standard_error]
        low, high = _bounds(error)
        terms = ColumnTerms.model_construct(name=_WEIGHT, type="number", low=1 / high, high=1 / low)
        return [plain(effect), Feature(terms, lambda columns: 1 / columns[parameters.standard_error])]

    def run(
        self, ctx: Context, inputs: Mapping[str, Shared], parameters: Parameters
    ) -> Mapping[str, SharedTensor]:
        """See `Computed.run`."""
        import torch

        from mpcpriv.analyses.table import together as put_together

        del ctx
        whole, split = put_together(inputs)
        if split == "columns split" or not 2 <= whole.rows <= _MOST:
            raise UsageError(
                f"{self.name}: it needs rows of effect and error side by side, 2 to {_MOST} studies"
            )
        effect, weight = whole.columns[parameters.effect], whole.columns[_WEIGHT]
        assert weight.terms.high is not None
        low = 1 / weight.terms.high
        # Interval arithmetic does not see that a weighted mean lies where its values do. With values up to 4
        # and roots up to 64, no square here exceeds 2^24; `read` refuses what `between` was cut for.
        y, rows = free(effect.shared), whole.rows
        # The numbers are shared in units of their bounds' width; the root of a weight is up to `_ROOT`.
        scaled: Any = weight.shared * (weight.scale.unit * low * _ROOT) + weight.scale.centre * low * _ROOT
        root: Any = free(scaled)
        small: Any = (root * (1 / math.sqrt(_ROOT))).square()
        weights: Any = root.square()
        level: Any = weights.mean()
        fixed = _mean(weights, y, level, rows)
        apart: Any = (root * (y - fixed)).square().mean()
        squares: Any = small.square().mean()
        # (Q - (k - 1)) / (sum w - sum w^2 / sum w), times _ROOT: of the variance within that of weight 1.
        more = apart * _per(effect.scale, low) - (rows - 1) / rows
        spread = level - (squares / level) * (_ROOT**2 / rows)
        between: Any = (more * _ROOT / spread).clamp(0, _FARTHEST)
        random: Any = weights / (small * between + 1)
        random_level: Any = random.mean()
        pooled = _mean(random, y, random_level, rows)
        sums: Any = torch.stack([level, fixed, apart, squares, random_level, pooled])
        found: dict[str, Any] = {"sums": sums}
        if parameters.show_studies:
            found |= {"effects": y, "roots": root}
        return found

    def read(self, asked: Asked, opened: Opened) -> Answer:
        """See `Computed.read`."""
        from scipy import special

        whole, _ = together(asked.tables)
        parameters: Parameters = asked.parameters
        self._checked(whole.columns, parameters)
        rows, scale = whole.rows, Scale.of(whole.columns[parameters.effect])
        low, _ = _bounds(whole.columns[parameters.standard_error])
        level, fixed, apart, squares, random_level, random = map(float, opened["sums"])
        unit = (_ROOT * low) ** 2  # the variance that has weight 1
        q = max(apart * rows * _per(scale, low), 0.0)
        spread = rows * level - squares * _ROOT**2 / level
        tau2 = max((q - (rows - 1)) / spread * unit, 0.0) if spread > 0 else 0.0
        if tau2 / unit * _ROOT > _FARTHEST / 2:
            raise UsageError(
                f"{self.name}: the effects are too far apart for the lower bound of standard errors; agree "
                "on narrower bounds"
            )
        estimate = scale.centre + scale.unit * np.array([fixed, random])
        error = np.sqrt(unit / (rows * np.array([level, random_level])))
        margin = quantile() * error
        told: dict[str, Any] = {
            "studies": rows,
            "model": ["fixed effect", "random effects"],
            "estimate": estimate.tolist(),
            "standard_error": error.tolist(),
            "statistic": (estimate / error).tolist(),
            "p_value": np.asarray(two_sided(estimate / error)).tolist(),
            "low": (estimate - margin).tolist(),
            "high": (estimate + margin).tolist(),
            "tau2": tau2,
            "q": q,
            "q_degrees": rows - 1,
            "q_p_value": float(special.chdtrc(rows - 1, q)),
            "i2": 100 * max(1 - (rows - 1) / q, 0.0) if q > 0 else 0.0,
            "h2": q / (rows - 1),
        }
        if rows > 2:
            reach = quantile(rows - 2) * math.sqrt(tau2 + error[1] ** 2)
            told["prediction"] = [float(estimate[1] - reach), float(estimate[1] + reach)]
        if parameters.show_studies:
            effects = scale.centre + scale.unit * opened["effects"]
            errors = _ROOT * low / opened["roots"]
            told |= {
                "study": [
                    f"{name} {row + 1}" for name, one in asked.tables.items() for row in range(one.rows)
                ],
                "study_effect": effects.tolist(),
                "study_error": errors.tolist(),
                "study_low": (effects - quantile() * errors).tolist(),
                "study_high": (effects + quantile() * errors).tolist(),
                "fixed_weight": _per_cent(1 / errors**2),
                "random_weight": _per_cent(1 / (errors**2 + tau2)),
            }
        return told

    def show(self, answer: Answer) -> Sequence[Shown]:
        """See `Showing.show`."""
        some: dict[str, Any] = dict(answer)
        pooled = Table(
            "Pooled effects",
            {
                "": some["model"],
                "effect": some["estimate"],
                "std err": some["standard_error"],
                "z": some["statistic"],
                "P>|z|": some["p_value"],
                "[0.025": some["low"],
                "0.975]": some["high"],
            },
        )
        apart = {
            "studies": some["studies"],
            "Q": some["q"],
            "df": some["q_degrees"],
            "P>Q": some["q_p_value"],
            "I2, %": some["i2"],
            "H2": some["h2"],
            "tau2": some["tau2"],
        }
        names, x, low, high = (list(some[key]) for key in ("model", "estimate", "low", "high"))
        if "prediction" in some:
            names.append("a further study")
            x.append(x[1])
            low.append(some["prediction"][0])
            high.append(some["prediction"][1])
        weights: list[float] = []
        tables = [pooled, Table("Heterogeneity", {key: [value] for key, value in apart.items()})]
        if "study" in some:
            keys = ("study", "study_effect", "study_error", "study_low", "study_high")
            columns = dict(
                zip(("", "effect", "std err", "[0.025", "0.975]"), (some[key] for key in keys), strict=True)
            )
            columns |= {"fixed, %": some["fixed_weight"], "random, %": some["random_weight"]}
            tables.append(Table("Studies", columns))
            weights = [*some["random_weight"], *[100.0] * len(names)]
            names, x = [*some["study"], *names], [*some["study_effect"], *x]
            low, high = [*some["study_low"], *low], [*some["study_high"], *high]
        return [Forest("Effects", "effect", names, x, low, high, 0.0, weights), *tables]

    def _checked(self, columns: Mapping[str, ColumnTerms], parameters: Parameters) -> None:
        named = {parameters.effect, parameters.standard_error}
        if len(named) < 2 or set(columns) != named:
            raise UsageError(
                f"{self.name}: each table has the columns {parameters.effect!r} and "
                f"{parameters.standard_error!r}, side by side, and no other"
            )
        for name in named:
            if columns[name].type not in ("number", "integer"):
                raise UsageError(f"{self.name}: {name!r} must be a number")
        low, high = columns[parameters.standard_error].low, columns[parameters.standard_error].high
        if low is None or high is None or low <= 0 or high > _WIDEST * low:
            raise UsageError(
                f"{self.name}: standard errors {parameters.standard_error!r} need agreed bounds above 0, the "
                f"upper at most {_WIDEST:g} times the lower"
            )


def _mean(weights: Any, values: Any, level: Any, rows: int) -> Any:
    """The weighted mean, a scalar, of values (n,); `level` is the mean of the weights (n,)."""
    first = weights.matmul(values) * (1 / rows) / level
    # A quotient is off relative to itself: what is left of it is small, and then off by little.
    return first + weights.matmul(values - first) * (1 / rows) / level


def _per(effect: Scale, low: float) -> float:
    """What Q is of the sum of squares that are computed."""
    return float((effect.unit / (_ROOT * low)) ** 2)


def _bounds(error: ColumnTerms) -> tuple[float, float]:
    assert error.low is not None
    assert error.high is not None
    return error.low, error.high


def _per_cent(weights: np.ndarray) -> list[float]:
    found: list[float] = (100 * weights / weights.sum()).tolist()
    return found


ANALYSIS: Final = MetaAnalysis()

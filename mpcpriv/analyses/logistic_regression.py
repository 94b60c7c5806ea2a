"""Logistic regression by Newton's method on shares, features standardised inside; nothing is opened.

The objective is scikit-learn's default: the sum of log-losses + penalty / 2 * |w|^2, on features of mean
0 and variance 1, the intercept not penalised.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

import numpy as np
from pydantic import Field

from mpcpriv.analyses.analysis import Answer, Asked, Context, Opened
from mpcpriv.analyses.outline import roles, together
from mpcpriv.data.scale import Scale
from mpcpriv.documents import Document
from mpcpriv.job.model import Column as ColumnName
from mpcpriv.job.model import Job

if TYPE_CHECKING:
    from mpcpriv.analyses.table import Table
    from mpcpriv.engine.tensor import SharedTensor

_ROWS: Final = 27
"""Gradient and Hessian are held as if there were about so many rows, whatever there are: then they and the
Hessian's inverse keep their digits in fixed point."""

_LATER: Final = 3
"""Iterations for the inverse of a Hessian that is close to the one before."""

_SETTLED: Final = 1e-2
"""A last step that changed no standardised coefficient by more has converged: Newton's next is its square."""
_FLAT: Final = 1e-3
"""Neither has one that left a gradient of more than this per row: then the inverse has lost its digits."""


Steps = Callable[[int, str], Iterator[int]]


def standardise(x: SharedTensor) -> tuple[SharedTensor, SharedTensor, SharedTensor]:
    """Standardises the columns.

    Args:
        x: (n, d), columns of standard deviation 0.3 to 4.

    Returns:
        x with mean 0 and variance 1 per column; the means (d,); one over the standard deviations (d,).
    """
    mean = x.mean(0)
    centred = x - mean
    per_spread = centred.square().mean(0).inv_sqrt()
    return centred * per_spread, mean, per_spread


def train(
    x: SharedTensor, y: SharedTensor, turns: int, penalty: float, steps: Steps
) -> tuple[SharedTensor, SharedTensor]:
    """Newton's method on all rows: it needs few steps, and so few comparisons and rounds.

    The inverse of the Hessian is followed by Schulz's iteration (G. Schulz, ZAMM 13, 1933), starting
    from the last step's. It need not be exact: the gradient is, and it decides where the steps end.

    Args:
        x: (n, d), standardised.
        y: (n,), 0 or 1.
        turns: Newton's steps.
        penalty: at least 1.
        steps: counts the turns of a loop (`mpcpriv.steps`).

    Returns:
        the weights (d + 1,), the intercept last; and (1,), whether the last step left them where they were.
    """
    import torch

    from mpcpriv.engine.tensor import SharedTensor

    rows, columns = x.shape
    unit = 2.0 ** round(math.log2(rows / _ROWS))
    # Interval arithmetic multiplies ends that never meet, and would refuse what follows. What holds instead:
    # a standardised column has length sqrt(n), so by Cauchy and Schwarz no sum over rows here exceeds n, and
    # n is below 2^30; and Schulz's iteration keeps the inverse times the Hessian between 0 and 1.
    x.interval = None
    x = SharedTensor.cat([x, SharedTensor.constant(torch.ones(rows, 1))], dim=1)
    across = x.t()
    ridge = torch.tensor([penalty] * columns + [0.0])
    # Its trace bounds the Hessian: a probability p has p (1 - p) <= 1/4, a standardised column length n.
    # Starting below the inverse, the iteration stays below it, and the first step falls short, never beyond.
    bound = rows * (columns + 1) / 4 + penalty * columns
    inverse = SharedTensor.constant(torch.eye(columns + 1) * (unit / bound))
    # At weights of zero each probability is 1/2. Each turn doubles the part of the least eigenvalue.
    weights = SharedTensor.constant(torch.zeros(columns + 1))
    gradient = across.matmul(0.5 - y) / unit
    hessian: Any = across.matmul(x) / (4 * unit) + torch.diag(ridge / unit)
    for _ in steps(math.ceil(math.log2(bound / penalty)), "inverting"):
        inverse = _improved(inverse, hessian)

    def step(weights: SharedTensor) -> tuple[SharedTensor, ...]:
        change = inverse.matmul(gradient)
        weights = weights - change
        probability = x.matmul(weights).sigmoid()
        slope: Any = (across.matmul(probability - y) + weights * ridge) / unit
        certainty = (probability - probability.square()).unsqueeze(1)
        hessian: Any = across.matmul(x * certainty) / unit + torch.diag(ridge / unit)
        better = inverse
        for _ in range(_LATER):
            better = _improved(better, hessian)
        return weights, slope, better, change

    weights, gradient, inverse, change = step(weights)
    # The first step is not a turn: it comes after other things than the later ones, and what the dealer is
    # asked for ahead would be in vain.
    for _ in steps(turns - 1, "training after the first step"):
        weights, gradient, inverse, change = step(weights)
    moved = SharedTensor.cat([change.abs() / _SETTLED, gradient.abs() * (unit / rows / _FLAT)]).gt(1)
    return weights, moved.sum().eq(0).reshape(1)


def _improved(inverse: SharedTensor, matrix: SharedTensor) -> SharedTensor:
    better: SharedTensor = inverse.mul(2) - inverse.matmul(matrix.matmul(inverse))
    return better


def fold(weights: SharedTensor, mean: SharedTensor, per_spread: SharedTensor) -> SharedTensor:
    """The same model, (d + 1,), for features that are not standardised: means and spreads stay secret."""
    from mpcpriv.engine.tensor import SharedTensor

    coefficients = weights[:-1] * per_spread
    intercept = weights[-1:] - (coefficients * mean).sum().reshape(1)
    folded: SharedTensor = SharedTensor.cat([coefficients, intercept])
    return folded


class Parameters(Document):
    """What a job can set.

    Attributes:
        target: the column that is predicted: a boolean, or a category of two, the second counting as 1.
        steps: of Newton's method.
        penalty: of |w|^2 / 2 for standardised features: 1 / C of scikit-learn.
    """

    target: ColumnName
    steps: Annotated[int, Field(ge=1, le=50)] = 10
    penalty: Annotated[float, Field(ge=1, le=1e4)] = 1.0


class LogisticRegression:
    """The model of all rows, for features in the units of the data."""

    name: Final = "logistic-regression"
    title: Final = "a logistic regression of one column on all others, over all rows"
    text: Final = (
        "Newton's method on the sum of log-losses + penalty / 2 * |w|^2 of standardised features, the "
        "intercept not penalised: scikit-learn's default with C = 1 / penalty. Means, spreads, gradients and "
        "the loss stay secret. Features are numbers, integers and booleans; their agreed bounds should be no "
        "wider than twenty times their spread, or digits are lost. `converged` is 0 where the last step "
        "still moved a coefficient: run it again with more steps."
    )
    parameters: Final = Parameters
    example: Final = """\
analysis = "logistic-regression"
inputs = [
    { dataset = "north", columns = ["age", "weight", "ill"] },
    { dataset = "south", columns = ["age", "weight", "ill"] },
]
parameters = { target = "ill", steps = 10, penalty = 1.0 }
"""

    def outputs(self, job: Job) -> Mapping[str, str]:
        """By name, what the recipients learn."""
        target = job.parameters.get("target")
        names = dict.fromkeys(name for one in job.inputs for name in one.columns if name != target)
        return {
            "rows": "how many rows all data sets have together",
            "features": "the names of the features, in order",
            "coefficients": f"one number for each feature ({', '.join(names)}), in its unit",
            "intercept": "one number",
            "iterations": "how many steps were made",
            "converged": "whether (1) or not (0) the last step left every coefficient where it was",
        }

    def run(
        self, ctx: Context, inputs: Mapping[str, Table], parameters: Parameters
    ) -> Mapping[str, SharedTensor]:
        """See `Analysis.run`."""
        from mpcpriv.analyses.table import together as put_together
        from mpcpriv.engine.tensor import SharedTensor

        whole, _ = together({name: one.outline for name, one in inputs.items()})
        roles(whole.columns, parameters.target, self.name)
        columns = dict(put_together(inputs)[0].columns)
        target = columns.pop(parameters.target)
        x, mean, per_spread = standardise(SharedTensor.stack([one.shared for one in columns.values()], dim=1))
        weights, converged = train(x, target.shared, parameters.steps, parameters.penalty, ctx.steps)
        return {"model": fold(weights, mean, per_spread), "converged": converged}

    def read(self, asked: Asked, opened: Opened) -> Answer:
        """See `Analysis.read`."""
        whole, _ = together(asked.tables)
        features = roles(whole.columns, asked.parameters.target, self.name)
        scales = [Scale.of(column) for column in features.values()]
        centre, unit = np.array([one.centre for one in scales]), np.array([one.unit for one in scales])
        coefficients = opened["model"][:-1] / unit
        return {
            "rows": whole.rows,
            "features": list(features),
            "coefficients": coefficients.tolist(),
            "intercept": float(opened["model"][-1] - coefficients @ centre),
            "iterations": asked.parameters.steps,
            "converged": int(opened["converged"][0]),
        }


ANALYSIS: Final = LogisticRegression()

"""Logistic regression with differential privacy: gradient descent on all rows, its gradients perturbed.

All rows take part in each step, so nothing rests on a sample that must stay secret, it does not matter how
rows or columns are split, and the masked rows are opened once. At equal ε it is as good as steps on samples,
and better than noise on the minimum or on the objective (`docs/private-training.md`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Final

import numpy as np
from pydantic import Field

from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.analyses.analysis import Answer, Asked, Context, Opened
from mpcpriv.analyses.generalised_linear import in_units
from mpcpriv.analyses.logistic_regression import MODEL, model_of
from mpcpriv.analyses.outline import roles, together
from mpcpriv.data.scale import Scale
from mpcpriv.documents import Document
from mpcpriv.errors import UsageError
from mpcpriv.job.model import Column as ColumnName
from mpcpriv.job.model import Job
from mpcpriv.privacy.training import Composition

if TYPE_CHECKING:
    from mpcpriv.analyses.table import Table
    from mpcpriv.engine.perturb import Ahead
    from mpcpriv.engine.private import logistic
    from mpcpriv.engine.tensor import SharedTensor

_MOST_ROWS: Final = 1 << 16
_WEIGHT_LIMIT: Final = 1024.0
_MOVED: Final = 3.0
"""Euclidean norm of the noise in the last weights, about: what suited the tables of the benchmark."""
_RATES: Final = (0.25, 8.0)


class Parameters(Document):
    """What a job can set; all of it is fixed before the data are seen.

    Attributes:
        target: the column that is predicted: a boolean, or a category of two, the second counting as 1.
        steps: of gradient descent. More of them need more noise each.
        learning_rate: of the mean gradient, for features within [-1, 1]; left out, it follows from the noise:
            so that all of it together moves the weights by about 3.
        clip: the largest norm of one row's gradient.
    """

    target: ColumnName
    steps: Annotated[int, Field(ge=1, le=500)] = 30
    learning_rate: Annotated[float, Field(gt=0, le=100)] | None = None
    clip: Annotated[float, Field(ge=0.01, le=10)] = 1.0


class PrivateLogisticRegression:
    """The model of all rows, for features in the units of the data, with noise in it."""

    name: Final = "private-logistic-regression"
    title: Final = "a logistic regression of one column on all others, with differential privacy"
    text: Final = (
        "Gradient descent on the mean log-loss over all rows, without a penalty, from weights of 0. "
        "Features are scaled to [-1, 1] by their agreed bounds, so bounds should be no wider than needed. "
        "The gradient of each row is clipped to a norm of `clip`, and every party adds noise of its own "
        "to their sum in each step, before anything else is done with it (Abadi et al., CCS 2016). "
        "Nothing but the last weights is opened. Choose steps and clip without looking at "
        "the data; about 30 steps do."
    )
    parameters: Final = Parameters
    example: Final = """\
analysis = "private-logistic-regression"
inputs = [
    { dataset = "north", columns = ["age", "weight", "ill"] },
    { dataset = "south", columns = ["age", "weight", "ill"] },
]
parameters = { target = "ill", steps = 30, clip = 1.0 }
"""

    def outputs(self, job: Job) -> Mapping[str, str]:
        """By name, what the recipients learn."""
        del job
        return {
            "rows": "how many rows all data sets have together",
            **{name: f"{said}, with noise" if name != "features" else said for name, said in MODEL.items()},
            "iterations": "how many steps were made",
        }

    def composition(self, parameters: Parameters) -> Composition:
        """See `Perturbed.composition`."""
        # What `engine.private.logistic.sensitivity` says, without torch; `run` compares the two.
        return Composition(1.0, parameters.steps, math.floor(parameters.clip * 2**16) << 16)

    def run(
        self, ctx: Context, inputs: Mapping[str, Table], parameters: Parameters
    ) -> Mapping[str, SharedTensor]:
        """See `Computed.run`."""
        import torch

        from mpcpriv.analyses.table import together as put_together
        from mpcpriv.engine.perturb import Ahead
        from mpcpriv.engine.private import logistic
        from mpcpriv.engine.tensor import SharedTensor

        whole, _ = together({name: one.outline for name, one in inputs.items()})
        features = roles(whole.columns, parameters.target, self.name)
        if ctx.noise is None:
            raise UsageError(f"{self.name}: nothing is released without noise; ask for epsilon and delta")
        if whole.rows * max(parameters.clip, 1.0) > _MOST_ROWS:
            raise UsageError(
                f"{self.name}: {whole.rows} rows with a clip of {parameters.clip} are too many; at most "
                f"{int(_MOST_ROWS / max(parameters.clip, 1.0))}"
            )
        if self.composition(parameters).l2 != logistic.sensitivity(parameters.clip):
            raise UsageError(f"{self.name}: its noise is for another norm; this is a fault in mpcpriv")
        noise = Ahead(ctx.noise, len(features) + 1, parameters.steps)
        table, _ = put_together(inputs)
        x: SharedTensor = SharedTensor.stack([table.columns[name].shared for name in features], dim=1).mul(
            torch.from_numpy(1 / _reach(features))
        )
        rows = logistic.split(x, table.columns[parameters.target].shared)
        return {"weights": self.descend(ctx, rows, noise, parameters, whole.rows).flatten()}

    def read(self, asked: Asked, opened: Opened) -> Answer:
        """See `Computed.read`."""
        whole, _ = together(asked.tables)
        features = roles(whole.columns, asked.parameters.target, self.name)
        reach = np.append(_reach(features), 1.0)
        estimates, _ = in_units(list(features.values()), opened["weights"] / reach)
        return {
            "rows": whole.rows,
            **model_of(list(features), estimates),
            "iterations": asked.parameters.steps,
        }

    def descend(
        self, ctx: Context, rows: logistic.Rows, noise: Ahead, parameters: Parameters, count: int
    ) -> SharedTensor:
        """Gradient descent on so many rows.

        Args:
            noise: drawn for each step.

        Returns:
            (d + 1, 1), private already; the intercept last.
        """
        import torch

        from mpcpriv.engine.private import logistic
        from mpcpriv.engine.tensor import SharedTensor

        columns = int(rows.direction.size(1))
        rate = parameters.learning_rate
        if rate is None:
            assert ctx.noise is not None
            moved = math.sqrt(ctx.noise.variance * parameters.steps * columns) / 2.0**logistic.BITS / count
            rate = min(max(_MOVED / moved, _RATES[0]), _RATES[1])
        weights = SharedTensor.constant(torch.zeros(columns, 1))
        for _ in ctx.steps(parameters.steps, "private training"):
            noised = noise.perturb(logistic.gradient(rows, weights, parameters.clip))
            # From here on all is computed from what is private already.
            weights = weights - noised.mul(rate / count)
            # So that no product with a weight leaves the ring.
            weights = weights.clamp(-_WEIGHT_LIMIT, _WEIGHT_LIMIT)
        return weights


def _reach(features: Mapping[str, ColumnTerms]) -> np.ndarray:
    """How far each scaled feature is from 0 at most, by its agreed bounds."""
    scales = [Scale.of(column) for column in features.values()]
    return np.array([max(-one.low, one.high) or 1.0 for one in scales])


ANALYSIS: Final = PrivateLogisticRegression()

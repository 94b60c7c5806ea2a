"""Clusters by k-means on shares: no owner learns which cluster a row is in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import numpy as np
from pydantic import Field

from mpcpriv.analyses.analysis import Answer, Asked, Context, Opened
from mpcpriv.analyses.cells import shown as may_be_shown
from mpcpriv.analyses.newton import free, standardise
from mpcpriv.analyses.outline import Outline, together
from mpcpriv.analyses.public_draws import uniform
from mpcpriv.analyses.shown import Bars, Shown, Table
from mpcpriv.analyses.told import levels
from mpcpriv.data.scale import Scale
from mpcpriv.documents import Document
from mpcpriv.errors import UsageError
from mpcpriv.job.model import Job

if TYPE_CHECKING:
    from mpcpriv.analyses.table import Column
    from mpcpriv.analyses.table import Table as Shared
    from mpcpriv.engine.tensor import SharedTensor

_MOST: Final = 1 << 23
"""Distances that are compared at once: rows by starts by clusters."""
_SETTLED: Final = 1e-3
"""A last step that moved the centres by no more than this, all numbers of all together, has converged."""


class Parameters(Document):
    """What a job can set.

    Attributes:
        clusters: how many.
        scale: by what columns are divided, so that distances along them compare: their standard deviations
            (which stay secret), or the widths of their agreed bounds.
        starts: from how many choices of first centres; the best end is told.
        seed: of the public choice of the rows that are the first centres.
        steps: of Lloyd's iteration.
    """

    clusters: Annotated[int, Field(ge=2, le=64)]
    scale: Literal["spread", "bounds"] = "spread"
    starts: Annotated[int, Field(ge=1, le=32)] = 4
    seed: Annotated[int, Field(ge=0, le=2**31)] = 0
    steps: Annotated[int, Field(ge=1, le=100)] = 20


class KMeans:
    """Of all rows."""

    name: Final = "k-means"
    title: Final = "clusters of rows by k-means: their centres and sizes"
    text: Final = (
        "Lloyd's iteration (1982), from first centres that are rows chosen publicly by `seed`: which rows "
        "is known, their values are not. Distances, assignments, sums and the centres on the way stay "
        "secret, and which of `starts` ended best is found on shares. Opened are the centres and sizes of "
        "the best, in the units of the data, and its inertia: the sum of squared distances to the nearest "
        "centre, of columns divided by their standard deviations (or by an eighth of the widths of their "
        "agreed bounds, which is then told as `scale`). A cluster of fewer rows than the agreement's "
        "smallest cell is not told, its centre would be nearly a row; neither is one in which so few said "
        "yes, or no, and the next smallest. A cluster that loses all rows stays where it was. `converged` "
        "is 0 where the last step moved a centre. Without differential privacy: what one row can change the "
        "centres by has no useful bound; `private-k-means` has it."
    )
    parameters: Final = Parameters
    example: Final = """\
analysis = "k-means"
inputs = [
    { dataset = "north", columns = ["age", "weight"] },
    { dataset = "south", columns = ["age", "weight"] },
]
parameters = { clusters = 3 }
"""

    def outputs(self, job: Job) -> Mapping[str, str]:
        """By name, what the recipients learn."""
        told = {
            "rows": "how many rows all data sets have together",
            "columns": "the names of the columns, in order",
            "sizes": "how many rows are in each cluster, from the largest on; -1 where that is suppressed",
            "centres": "of each cluster that is not, the mean of each column, cluster by cluster",
            "inertia": "the sum of squared distances of rows to the nearest centre, in units of `scale`",
            "iterations": "how many steps were made",
            "converged": "whether (1) or not (0) the last step left every centre where it was",
        }
        if job.parameters.get("scale") == "bounds":
            told["scale"] = "what each column is divided by, by its agreed bounds, before distances are taken"
        return told

    def run(
        self, ctx: Context, inputs: Mapping[str, Shared], parameters: Parameters
    ) -> Mapping[str, SharedTensor]:
        """See `Computed.run`."""
        import torch

        from mpcpriv.analyses.table import together as put_together

        outline, _ = together({name: one.outline for name, one in inputs.items()})
        self._checked(outline, parameters)
        whole, _ = put_together(inputs)
        x: Any = torch.stack([column.shared for column in whole.columns.values()], dim=1)
        z, spread, mean = free(x), 1.0, 0.0
        if parameters.scale == "spread":
            z, mean, per_spread, variance = standardise(x)
            # Interval arithmetic does not see that a standardised column has length sqrt(n), and a mean of
            # rows no larger values than the rows.
            z, spread = free(z[:, :-1]), variance * per_spread
        rows, width = z.shape
        chosen = first_rows(rows, parameters)
        centres = z[torch.from_numpy(chosen.ravel())].reshape(*chosen.shape, width)
        for _ in ctx.steps(parameters.steps - 1, "moving centres"):
            centres, _ = _means(z, centres, _assigned(z, centres)[0])
        before = centres
        centres, _ = _means(z, before, _assigned(z, before)[0])
        # Sizes are of the centres that are told, and of the rows that are nearest to them.
        nearest, inertia = _assigned(z, centres)
        after, counts = _means(z, centres, nearest)
        best = _one_hot(inertia).unsqueeze(1)
        sizes = (best * counts).sum(0)
        moved: Any = ((after - before).abs().sum((1, 2)) * best.squeeze(1)).sum()
        centre = (best.unsqueeze(2) * after).sum(0) * spread + mean
        squares: Any = (z * z).sum() * (1 / rows)
        least = (best.squeeze(1) * inertia).sum() + squares
        if ctx.smallest_cell > 1:
            # Of a yes-or-no a centre tells how many in its cluster said yes.
            told: list[Any] = [_from_zero(one) for one in whole.columns.values() if levels(one.terms)]
            each: Any = sizes
            if told:
                said: Any = nearest.flatten(1).t().matmul(torch.stack(told, dim=1))
                yes: Any = (best.unsqueeze(2) * said.reshape(*counts.shape, len(told))).sum(0)
                each = sizes.unsqueeze(1)
                each = torch.cat([each, yes, each - yes], dim=1)
            kept: Any = may_be_shown(each, ctx.smallest_cell)
            centre, sizes = centre * kept.unsqueeze(1), kept * (sizes + 1) - 1
        return {
            "centres": centre.flatten(),
            "sizes": sizes,
            "inertia": least.reshape(1),
            "converged": (1 - moved.gt(_SETTLED) * 1).reshape(1),
        }

    def read(self, asked: Asked, opened: Opened) -> Answer:
        """See `Computed.read`."""
        whole, _ = together(asked.tables)
        self._checked(whole, asked.parameters)
        scales = [Scale.of(column) for column in whole.columns.values()]
        sizes = np.rint(opened["sizes"]).astype(int)
        order = [place for place in np.argsort(-sizes, kind="stable") if sizes[place] >= 0]
        centres = opened["centres"].reshape(len(sizes), -1)[order]
        units = [one.unit for one in scales]
        told = np.array([one.centre for one in scales]) + centres * np.array(units)
        return {
            "rows": whole.rows,
            "columns": list(whole.columns),
            "sizes": np.sort(sizes)[::-1].tolist(),
            "centres": told.flatten().tolist(),
            "inertia": float(opened["inertia"][0]) * whole.rows,
            "iterations": asked.parameters.steps,
            "converged": int(opened["converged"][0]),
            **({"scale": units} if asked.parameters.scale == "bounds" else {}),
        }

    def show(self, answer: Answer) -> Sequence[Shown]:
        """See `Showing.show`."""
        some: dict[str, Any] = dict(answer)
        sizes = [size for size in some["sizes"] if size >= 0]
        centres = np.reshape(some["centres"], (len(sizes), len(some["columns"])))
        names = [f"{place + 1}" for place in range(len(sizes))]
        columns: dict[str, Any] = {"cluster": names, "rows": sizes}
        columns |= {name: centres[:, place].tolist() for place, name in enumerate(some["columns"])}
        hidden = len(some["sizes"]) - len(sizes)
        notes = [f"inertia {some['inertia']:.6g}"]
        notes += [f"{hidden} clusters are suppressed, as the agreement has it"] if hidden else []
        notes += [] if some["converged"] else ["not converged: ask for more steps"]
        return [Table("Clusters", columns, notes), Bars("Sizes of clusters", names, sizes)]

    def _checked(self, whole: Outline, parameters: Parameters) -> None:
        for name, column in whole.columns.items():
            if column.type == "category":
                raise UsageError(f"{self.name}: column {name!r} is a category; give a boolean for each")
        if whole.rows <= parameters.clusters:
            raise UsageError(
                f"{self.name}: {parameters.clusters} clusters of {whole.rows} rows; ask for fewer"
            )
        if whole.rows * parameters.starts * parameters.clusters > _MOST:
            raise UsageError(
                f"{self.name}: {whole.rows} rows by {parameters.starts} starts of {parameters.clusters} "
                f"clusters are more than {_MOST}; ask for fewer starts"
            )


def first_rows(rows: int, parameters: Parameters) -> np.ndarray:
    """Which rows are the first centres, (starts, clusters): public, and so no secret randomness is in it."""
    order = uniform(f"first centres {parameters.seed}", (parameters.starts, rows)).argsort(axis=1)
    return order[:, : parameters.clusters]


def _from_zero(column: Column) -> Any:
    """A yes-or-no, or an integer of two values, as 0 and 1."""
    found = levels(column.terms)
    assert found is not None
    return column.shared + (column.scale.centre - found.codes[0])


def _assigned(z: Any, centres: Any) -> tuple[Any, Any]:
    """1 where a centre is the nearest to a row, (n, starts, clusters); and (starts,), the mean over rows of
    the squared distance to it, less the row's own square.
    """
    starts, clusters, width = centres.shape
    flat = centres.reshape(starts * clusters, width)
    apart = (flat * flat).sum(1) - z.matmul(flat.t()) * 2
    apart = apart.reshape(len(z), starts, clusters)
    nearest = _one_hot(apart)
    return nearest, (nearest * apart).sum(2).mean(0)


def _means(z: Any, centres: Any, nearest: Any) -> tuple[Any, Any]:
    """The means of the rows of each cluster, (starts, clusters, d), and their numbers (starts, clusters)."""
    starts, clusters, width = centres.shape
    flat = centres.reshape(starts * clusters, width)
    by_cluster = nearest.reshape(len(z), starts * clusters)
    counts = by_cluster.sum(0)
    # A cluster without rows stays: its sum is that of no rows, and so is what it is moved by.
    sums = by_cluster.t().matmul(z) - flat * counts.unsqueeze(1)
    moved = flat + sums / (counts + counts.lt(0.5)).unsqueeze(1)
    return moved.reshape(starts, clusters, width), counts.reshape(starts, clusters)


def _one_hot(values: Any) -> Any:
    """1 where the least of the last dimension is, and 0 elsewhere."""
    import torch

    if isinstance(values, torch.Tensor):
        return torch.nn.functional.one_hot(values.argmin(-1), values.shape[-1]).to(values.dtype)
    return values.argmin(dim=-1, one_hot=True)


ANALYSIS: Final = KMeans()

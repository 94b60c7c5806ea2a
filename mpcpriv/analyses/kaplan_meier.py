"""Survival curves by Kaplan and Meier."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import numpy as np
from pydantic import Field

from mpcpriv.analyses.analysis import Answer, Asked, Context, Opened
from mpcpriv.analyses.cells import pool
from mpcpriv.analyses.inference import quantile
from mpcpriv.analyses.life_table import OfLifeTable, Plan, Survival, at_risk
from mpcpriv.analyses.public_draws import normal
from mpcpriv.analyses.shown import Line, Lines, Shown, Table
from mpcpriv.errors import UsageError
from mpcpriv.job.model import Job

if TYPE_CHECKING:
    from mpcpriv.engine.tensor import SharedTensor

NOT_REACHED: Final = "not reached"
_DRAWS: Final = 500
"""Of noise, for a band that contains it."""
_FEWEST: Final = 10
"""Beneath noise a curve ends where fewer are at risk, or fewer than the noise may make of none."""
_SHOWN_TIMES: Final = 8


class Parameters(Survival):
    """What a job can set.

    Attributes:
        level: of the confidence band.
    """

    level: Annotated[float, Field(gt=0.5, lt=1)] = 0.95


@dataclass(frozen=True)
class Curve:
    """An estimate at each time of the grid, (T,) each.

    Attributes:
        survival: the probability of no event until then.
        variance: Greenwood's sum of d / (n (n - d)): the variance of log(survival).
    """

    survival: np.ndarray
    variance: np.ndarray

    @classmethod
    def of(cls, events: np.ndarray, remaining: np.ndarray) -> Curve:
        """The product-limit estimate (E. L. Kaplan and P. Meier, JASA 53, 1958)."""
        left = remaining - events
        hazard = np.divide(events, remaining, out=np.zeros_like(events), where=remaining > 0)
        # Where all that are left have the event, the curve is at 0 and has no variance.
        terms = np.divide(hazard, left, out=np.zeros_like(events), where=left > 0)
        return cls(np.cumprod(1 - hazard), np.cumsum(terms))

    def band(self, level: float) -> tuple[np.ndarray, np.ndarray]:
        """Where the curve is, on the scale of log(-log(S)) (Kalbfleisch and Prentice, 1980, section 1.3).

        Args:
            level: of each interval.
        """
        inside = np.asarray((self.survival > 0) & (self.survival < 1))
        log = np.log(np.where(inside, self.survival, 0.5))
        margin = quantile(level=level) * np.sqrt(self.variance) / -log
        low, high = np.exp(log * np.exp(margin)), np.exp(log * np.exp(-margin))
        ends = (self.survival >= 1).astype(np.float64)
        return np.where(inside, low, ends), np.where(inside, high, ends)


class KaplanMeier(OfLifeTable):
    """By group."""

    name: Final = "kaplan-meier"
    title: Final = (
        "survival curves by Kaplan and Meier, with Greenwood's confidence bands, medians, numbers at risk"
    )
    text: Final = (
        "How many rows had the event, and how many were censored, at each time of a public grid and in "
        "each group is opened; the curves are computed from it. Whole-numbered times are the grid, or "
        "times are rounded up to the ends of `intervals` intervals of equal length. Who is censored at a "
        "time was at risk then. Bands are Greenwood's on the scale of log(-log(S)) (lifelines' and not R's "
        "default), each for one time by itself. A median is the first time at which the curve is at one "
        "half or below. Where the agreement's smallest cell is above 1, counts are pooled on shares before "
        "they are opened: in each group, events are counted at the time at which they have become so many "
        "since the last, and so are those censored; what is left at the end counts with the last. A curve "
        "then steps late, the last time early, by fewer events than that, and numbers at risk are off by "
        "fewer than twice as many; a group with fewer events or fewer censored is left out, and with it "
        "the next smallest. That at least one row stands at the time of a step is then still seen. With "
        "differential privacy nothing is pooled: noise is added to each count (Gondara and Wang, 2020), "
        "the curve is made to fall by isotonic regression, bands are on the scale of S and contain the "
        "noise, by simulation, and a curve ends where few are at risk. One row changes one count: the "
        "fewer times (`intervals`), the less noise adds up."
    )
    parameters: Final = Parameters
    example: Final = """\
analysis = "kaplan-meier"
inputs = [
    { dataset = "north", columns = ["week", "arrest", "aid"] },
    { dataset = "south", columns = ["week", "arrest", "aid"] },
]
parameters = { time = "week", event = "arrest", group = "aid" }
"""

    def outputs(self, job: Job) -> Mapping[str, str]:
        """By name, what the recipients learn."""
        noise = ", from counts with noise" if job.release.epsilon is not None else ""
        told = {
            "rows": "how many rows all data sets have together",
            "groups": "what the groups are called, in order",
            "group_rows": "how many rows are in each group; -1 where that is suppressed",
            "group_events": "how many of them had the event; -1 where that is suppressed",
            "median": "of each group the time at which half have had the event",
            "median_low": "the lower end of its confidence interval",
            "median_high": "its upper end",
            "group": "the group of each line of the table that follows",
            "time": "its time",
            "at_risk": "how many were followed still as this time came",
            "events": "how many had the event then, or since the last such time",
            "censored": "how many were not followed any longer then, or since the last such time",
            "survival": f"the probability of no event until then{noise}",
            "low": "the lower end of its confidence interval",
            "high": "its upper end",
            "level": "of the confidence intervals",
        }
        if job.release.epsilon is not None:
            told["noise"] = "of the noise in each count, the standard deviation"
        return told

    def settle(self, ctx: Context, counts: SharedTensor, rows: int) -> Mapping[str, SharedTensor]:
        """See `OfLifeTable.settle`."""
        del rows
        if ctx.smallest_cell > 1:
            counts = pool(counts.reshape(-1, counts.shape[2]), ctx.smallest_cell, ctx.steps)
        return {"counts": counts.flatten()}

    def read(self, asked: Asked, opened: Opened) -> Answer:
        """See `Computed.read`."""
        plan = Plan.of(asked, self.name)
        counts = np.rint(opened["counts"]).reshape(plan.shape)
        hidden = np.asarray((counts < 0).any((1, 2)))
        if hidden.all():
            raise UsageError(
                f"{self.name}: no group has so many events and so many censored that the agreement lets them "
                "be shown; use more data, or ask for differential privacy"
            )
        remaining = at_risk(counts)
        told = []
        for group in range(len(plan.groups)):
            if hidden[group]:
                told.append(_Told.nothing())
                continue
            curve = Curve.of(counts[group, 1], remaining[group])
            some = counts[group].sum(0) > 0
            low, high = curve.band(asked.parameters.level)
            told.append(_Told.of(plan, some, counts[group], remaining[group], curve.survival, low, high))
        return _answer(plan, told, asked)

    def of_noised(self, plan: Plan, counts: np.ndarray, deviation: float, asked: Asked) -> Answer:
        """See `OfLifeTable.of_noised`."""
        told = [_noised(plan, one, deviation, asked) for one in _consistent(counts, plan.rows)]
        return {**_answer(plan, told, asked), "noise": deviation}

    def show(self, answer: Answer) -> Sequence[Shown]:
        """See `Showing.show`."""
        some: dict[str, Any] = dict(answer)
        lines, grid = [], _evenly(some["time"])
        risk: dict[str, list[Any]] = {"time": grid}
        for name in some["groups"]:
            places = [place for place, group in enumerate(some["group"]) if group == name]
            if not places:
                continue
            x, y, low, high, n, d, c = (
                [some[key][place] for place in places]
                for key in ("time", "survival", "low", "high", "at_risk", "events", "censored")
            )
            lines.append(Line(name, [0.0, *x], [1.0, *y], [1.0, *low], [1.0, *high]))
            left = n[-1] - d[-1] - c[-1]
            risk[name] = [
                next((many for time, many in zip(x, n, strict=True) if time >= at), left) for at in grid
            ]
        summary = Table(
            "Survival",
            {
                "": some["groups"],
                "n": some["group_rows"],
                "events": some["group_events"],
                "median": some["median"],
                f"[{(1 - some['level']) / 2:.4g}": some["median_low"],
                f"{(1 + some['level']) / 2:.4g}]": some["median_high"],
            },
            ["-1: suppressed, as the agreement has it"] if -1 in some["group_rows"] else [],
        )
        keys = ("group", "time", "at_risk", "events", "censored", "survival", "low", "high")
        table = Table("Life table", {key.replace("_", " "): some[key] for key in keys})
        plot = Lines("Survival", "time", "probability of no event", lines, steps=True)
        return [plot, Table("Number at risk", risk), summary, table]


@dataclass(frozen=True)
class _Told:
    """Of one group; times (k,), and (k,) each of the others."""

    rows: float
    happened: float
    columns: Mapping[str, np.ndarray]
    median: tuple[str, str, str]

    @classmethod
    def nothing(cls) -> _Told:
        keys = ("time", "at_risk", "events", "censored", "survival", "low", "high")
        return cls(-1, -1, {key: np.zeros(0) for key in keys}, ("suppressed",) * 3)

    @classmethod
    def of(
        cls,
        plan: Plan,
        some: np.ndarray,
        counts: np.ndarray,
        remaining: np.ndarray,
        survival: np.ndarray,
        low: np.ndarray,
        high: np.ndarray,
    ) -> _Told:
        """Of the times at which there is something to tell, `some` (T,)."""
        columns = {
            "time": plan.times.ends[some],
            "at_risk": remaining[some],
            "events": counts[1][some],
            "censored": counts[0][some],
            "survival": survival[some],
            "low": low[some],
            "high": high[some],
        }
        time = columns["time"]
        median = (_half(time, survival[some]), _half(time, low[some]), _half(time, high[some]))
        return cls(float(counts.sum()), float(counts[1].sum()), columns, median)


def _half(times: np.ndarray, survival: np.ndarray) -> str:
    below = np.flatnonzero(survival <= 0.5)
    return f"{times[below[0]]:.10g}" if len(below) else NOT_REACHED


def _answer(plan: Plan, told: Sequence[_Told], asked: Asked) -> Answer:
    lines = {key: np.concatenate([one.columns[key] for one in told]).tolist() for key in told[0].columns}
    whole = not asked.noised
    for key in ("at_risk", "events", "censored") if whole else ():
        lines[key] = [int(many) for many in lines[key]]
    totals = {"group_rows": [one.rows for one in told], "group_events": [one.happened for one in told]}
    return {
        "rows": plan.rows,
        "groups": list(plan.groups),
        **{key: [int(many) if whole else many for many in values] for key, values in totals.items()},
        "median": [one.median[0] for one in told],
        "median_low": [one.median[1] for one in told],
        "median_high": [one.median[2] for one in told],
        "group": [name for name, one in zip(plan.groups, told, strict=True) for _ in one.columns["time"]],
        **lines,
        "level": asked.parameters.level,
    }


def _consistent(counts: np.ndarray, rows: int) -> np.ndarray:
    """Counts with noise, moved alike so that they add up to the rows, which are public."""
    moved: np.ndarray = counts + (rows - counts.sum()) / counts.size
    return moved


def _noised(plan: Plan, counts: np.ndarray, deviation: float, asked: Asked) -> _Told:
    """Of one group's counts (2, T), with noise."""
    remaining = at_risk(counts[None])[0]
    # Of so many cells with nobody in them, noise makes about this many at risk.
    cells = 2 * np.arange(len(remaining), 0, -1)
    enough = remaining >= np.maximum(_FEWEST, 2 * deviation * np.sqrt(cells))
    length = len(remaining) if enough.all() else int(np.argmin(enough))
    if not length:
        return _Told.nothing()
    survival = _falling(_products(counts[None], length)[0])
    drawn = _products(counts + deviation * normal("noise", (_DRAWS, *counts.shape)), length)
    hazard = 1 - survival / np.concatenate([[1.0], survival[:-1]])
    variance = Curve.of(hazard * remaining[:length], remaining[:length]).variance
    # Noise may leave a curve at 1, where log(-log(S)) is nowhere: these bands are on the scale of S.
    margin = quantile(level=asked.parameters.level) * np.sqrt(survival**2 * variance + drawn.var(0))
    low, high = np.clip(survival - margin, 0, 1), np.clip(survival + margin, 0, 1)
    some = np.arange(len(remaining)) < length

    def whole(part: np.ndarray) -> np.ndarray:
        return np.concatenate([part, np.zeros(len(remaining) - length)])

    return _Told.of(plan, some, counts, remaining, whole(survival), whole(low), whole(high))


def _products(counts: np.ndarray, length: int) -> np.ndarray:
    """Product limits (k, length), of counts with noise (k, 2, T): noise may make them rise, too."""
    remaining = np.maximum(at_risk(counts)[:, :length], 1.0)
    products: np.ndarray = np.cumprod(1 - np.clip(counts[:, 1, :length] / remaining, -0.9, 0.99), axis=1)
    return products


def _falling(curve: np.ndarray) -> np.ndarray:
    """The nearest that does not rise, between 0 and 1."""
    from scipy.optimize import isotonic_regression

    fallen: np.ndarray = np.clip(isotonic_regression(curve, increasing=False).x, 1e-6, 1.0)
    return fallen


def _evenly(times: Sequence[float]) -> list[float]:
    """A few round times from 0 to the last."""
    last = max(times, default=0.0)
    if last <= 0:
        return [0.0]
    size = 10 ** math.floor(math.log10(last / _SHOWN_TIMES))
    step = next(size * many for many in (1, 2, 5, 10, 20) if last / (size * many) <= _SHOWN_TIMES)
    return [float(step * place) for place in range(int(last / step) + 1)]


ANALYSIS: Final = KaplanMeier()

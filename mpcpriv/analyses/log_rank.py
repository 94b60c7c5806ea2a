"""The log-rank test of whether survival is the same in several groups."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.analyses.analysis import Answer, Asked, Context, Opened
from mpcpriv.analyses.life_table import OfLifeTable, Plan, Survival, at_risk
from mpcpriv.analyses.public_draws import normal
from mpcpriv.analyses.shown import Shown, Table
from mpcpriv.analyses.told import Cells, Levels, singles
from mpcpriv.errors import UsageError
from mpcpriv.job.model import Job

if TYPE_CHECKING:
    from mpcpriv.engine.tensor import SharedTensor

_HELD: Final = 14
"""Numbers at risk are divided where they are below 2 to this, so that their quotients keep their digits."""
_MOST_ROWS: Final = 1 << 24
_NOTHING: Final = 1e-3
"""A group whose excess has a variance below this was never at risk beside others when there was an event."""
_DRAWS: Final = 1000
"""Of noise, for its part of the variance."""
_FEWEST: Final = 10
"""Beneath noise, times are left out from where fewer are at risk in a group, or fewer than noise may make."""


class Parameters(Survival):
    """What a job can set: see `Survival`; the group is not left out."""


class LogRank(OfLifeTable):
    """Of two groups or more."""

    name: Final = "log-rank"
    title: Final = "the log-rank test of whether survival differs between groups"
    text: Final = (
        "Of each group, observed events less those expected if all groups were alike, and the covariance "
        "of these differences (Mantel, 1966; hypergeometric at each time), computed on shares from the "
        "numbers at risk at each time, which stay secret. These differences and covariances are opened, "
        "and how many rows and events each group has, where the agreement lets counts so small be shown. "
        "The statistic is chi-squared with one degree of freedom less than there are groups: as survdiff's "
        "in R with rho = 0, and lifelines' multivariate_logrank_test. Times are a public grid, as for "
        "kaplan-meier. With differential privacy noise is added to each count of events and of censored, "
        "by time and group; the covariance then contains the noise, by simulation, and the test ends at "
        "the time from which few are at risk: it finds less, but does not find more than there is."
    )
    parameters: Final = Parameters
    example: Final = """\
analysis = "log-rank"
inputs = [
    { dataset = "north", columns = ["week", "arrest", "aid"] },
    { dataset = "south", columns = ["week", "arrest", "aid"] },
]
parameters = { time = "week", event = "arrest", group = "aid" }
"""

    def outputs(self, job: Job) -> Mapping[str, str]:
        """By name, what the recipients learn."""
        told = {
            "rows": "how many rows all data sets have together",
            "groups": "what the groups are called, in order",
            "excess": "of each group, observed events less expected ones",
            "covariance": "of every two of these differences, row by row",
            "statistic": "chi-squared: how far from 0 the differences are together",
            "degrees": "of freedom: one less than there are groups with rows",
            "p_value": "of the test that survival is the same in all groups",
        }
        if job.release.epsilon is not None:
            return {**told, "noise": "of the noise in each count, the standard deviation"}
        return {
            **told,
            "group_rows": "how many rows are in each group",
            "group_events": "how many of them had the event",
        }

    def cells(self, columns: Mapping[str, ColumnTerms], parameters: Survival) -> Sequence[Cells]:
        """See `TellsCells.cells`: of small groups, or with few events, the differences would tell who is at
        risk when, for few whole numbers fit them.
        """
        happened = Levels(parameters.event, (0.0, 1.0))
        groups = singles([columns[name] for name in columns if name == parameters.group], 2)
        return [(happened,), *groups, *((happened, *one) for one in groups)]

    def settle(self, ctx: Context, counts: SharedTensor, rows: int) -> Mapping[str, SharedTensor]:
        """See `OfLifeTable.settle`."""
        del ctx
        import torch

        counts = counts.clone()
        # Interval arithmetic does not see that no number at risk is above that of the rows.
        counts.interval = None
        events: Any = counts[:, 1]
        left: Any = counts.sum(1)
        remaining = left.flip(-1).cumsum(-1).flip(-1)
        excess, covariance = differences(events, remaining, rows)
        # Of each group, those censored and those with the event: see `cells`.
        totals: Any = counts.sum(2).flatten()
        return {"excess": excess, "covariance": torch.flatten(covariance), "totals": totals}

    def read(self, asked: Asked, opened: Opened) -> Answer:
        """See `Computed.read`."""
        plan = self._plan(asked)
        size = len(plan.groups)
        totals = np.rint(opened["totals"]).astype(int).reshape(size, 2)
        return {
            **self._test(plan, opened["excess"], opened["covariance"].reshape(size, size)),
            "group_rows": totals.sum(1).tolist(),
            "group_events": totals[:, 1].tolist(),
        }

    def of_noised(self, plan: Plan, counts: np.ndarray, deviation: float, asked: Asked) -> Answer:
        """See `OfLifeTable.of_noised`."""
        self._plan(asked)
        counts = counts + (plan.rows - counts.sum()) / counts.size  # how many there are is public
        remaining = at_risk(counts)
        # Of so many cells with nobody in them, noise makes about this many at risk.
        cells = 2 * np.arange(remaining.shape[1], 0, -1)
        least = np.maximum(_FEWEST, 2 * deviation * np.sqrt(cells))
        enough = np.asarray((remaining >= least).all(0))
        length = len(enough) if enough.all() else int(np.argmin(enough))
        if not length:
            raise UsageError(
                f"{self.name}: the noise hides how many are at risk in some group; use more data, fewer "
                "groups or intervals, or ask for a larger epsilon"
            )
        excess, covariance = _differences(counts[None], length)
        drawn = counts + deviation * normal("noise", (_DRAWS, *counts.shape))
        noise = np.atleast_2d(np.cov(_differences(drawn, length)[0].T))
        return {**self._test(plan, excess[0], covariance[0] + noise), "noise": deviation}

    def show(self, answer: Answer) -> Sequence[Shown]:
        """See `Showing.show`."""
        some: dict[str, Any] = dict(answer)
        spread = np.sqrt(np.diag(np.reshape(some["covariance"], (len(some["groups"]),) * 2)))
        columns: dict[str, Any] = {"": some["groups"]}
        if "group_rows" in some:
            events = some["group_events"]
            columns |= {"n": some["group_rows"], "observed": events}
            columns["expected"] = [many - more for many, more in zip(events, some["excess"], strict=True)]
        columns |= {"observed - expected": some["excess"], "std err": spread.tolist()}
        test = {
            "chi2": [some["statistic"]],
            "df": [some["degrees"]],
            "P>chi2": [some["p_value"]],
        }
        return [Table("Log-rank test", test), Table("Groups", columns)]

    def _plan(self, asked: Asked) -> Plan:
        plan = Plan.of(asked, self.name)
        if len(plan.groups) < 2:
            raise UsageError(f"{self.name}: name the column of the groups that are to be compared")
        if plan.rows > _MOST_ROWS:
            raise UsageError(f"{self.name}: {plan.rows} rows; at most {_MOST_ROWS} can be compared")
        return plan

    def query(self, asked: Asked) -> Any:
        """See `Private.query`."""
        self._plan(asked)
        return super().query(asked)

    def _test(self, plan: Plan, excess: np.ndarray, covariance: np.ndarray) -> dict[str, Any]:
        from scipy import special

        # A group nobody is in takes no part; of the others, the last follows from those before.
        present = np.flatnonzero(np.diag(covariance) > _NOTHING)
        if len(present) < 2:
            raise UsageError(
                f"{self.name}: at no event was more than one group at risk, so there is nothing to compare"
            )
        kept = present[:-1]
        statistic = float(excess[kept] @ np.linalg.solve(covariance[np.ix_(kept, kept)], excess[kept]))
        return {
            "rows": plan.rows,
            "groups": list(plan.groups),
            "excess": excess.tolist(),
            "covariance": covariance.flatten().tolist(),
            "statistic": statistic,
            "degrees": len(kept),
            "p_value": float(special.chdtrc(len(kept), max(statistic, 0.0))),
        }


def differences(events: Any, remaining: Any, rows: int) -> tuple[Any, Any]:
    """Observed less expected events of each group, (g,), and their covariance (g, g), computed on shares.

    Args:
        events, remaining: (g, T), how many had the event, and how many were at risk, at each time.
        rows: how many are at risk at first.
    """
    import torch

    scale = 2.0 ** -max(math.ceil(math.log2(rows)) - _HELD, 0)
    happened, all_left = events.sum(0), remaining.sum(0)
    # 1 in the place of 0: where nobody is left, nothing happens.
    divisor = (all_left + all_left.lt(0.5)) * scale
    share = (remaining * scale) / divisor
    # What the last digit of a quotient leaves, times the events: or it would count for more with more rows.
    rest = ((remaining - share * all_left) * scale * happened) / divisor
    excess = (events - share * happened - rest).sum(1)
    others = all_left - 1
    without = ((all_left - happened) * scale) / ((others + others.lt(0.5) * (1 - others)) * scale)
    weighted = share * (happened * without)
    one = torch.eye(events.shape[0], dtype=torch.int64)
    return excess, one * weighted.sum(1) - weighted.matmul(share.t())


def _differences(counts: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """The same of counts with noise, (k, g, 2, T), of the first `length` times: (k, g) and (k, g, g)."""
    remaining = np.maximum(np.cumsum(counts.sum(2)[:, :, ::-1], axis=2)[:, :, ::-1][:, :, :length], 1.0)
    events = counts[:, :, 1, :length]
    happened, whole = events.sum(1, keepdims=True), remaining.sum(1, keepdims=True)
    share = remaining / whole
    spread = np.clip(happened, 0, whole) * (1 - np.clip(happened / whole, 0, 1)) * whole / (whole - 1)
    weighted = share * spread
    size = share.shape[1]
    covariance = np.eye(size) * weighted.sum(2)[:, :, None] - weighted @ share.transpose(0, 2, 1)
    return (events - share * happened).sum(2), covariance


ANALYSIS: Final = LogRank()

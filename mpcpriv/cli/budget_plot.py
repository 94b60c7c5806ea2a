"""What was spent of each budget against time, drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mpcpriv.errors import UsageError
from mpcpriv.privacy.rounding import plainly

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mpcpriv.party.budgets import Account

_FORMATS: Final = {".svg": "svg", ".png": "png"}
_SPENT, _BUDGET = "#0072b2", "#d55e00"  # told apart by those who do not see red and green (Okabe and Ito)


def draw(accounts: Sequence[Account], now: datetime, path: Path) -> None:
    """Draws the budgets one below the other into a new file.

    Raises:
        UsageError: matplotlib is missing, there is nothing to draw, or the file is of another kind, is there
            already or cannot be written.
    """
    if path.suffix.lower() not in _FORMATS:
        raise UsageError(f"--plot {path}: a name that ends in .svg or .png is needed")
    if not accounts:
        raise UsageError(f"--plot {path}: no agreement here has such a budget, so there is nothing to draw")
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise UsageError("--plot needs matplotlib, which is not here: pip install 'mpcpriv[plot]'") from None
    # Text stays text, and the same figure is the same file.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "mpcpriv"}):
        figure = Figure(figsize=(8, 0.6 + 2.8 * len(accounts)), layout="constrained")
        rows = figure.subplots(len(accounts), squeeze=False)[:, 0]
        for axes, account in zip(rows, accounts, strict=True):
            _draw(axes, account, now)
        kind = _FORMATS[path.suffix.lower()]
        try:
            with path.open("xb") as file:
                metadata = {"Date": None} if kind == "svg" else {"Software": None}
                figure.savefig(file, format=kind, metadata=metadata)
        except OSError as error:
            raise UsageError(
                f"--plot {path}: cannot be written ({error.strerror}); name a new file"
            ) from None


def _draw(axes: Axes, account: Account, now: datetime) -> None:
    allowance = account.allowance
    times = [reading.entry.reserved for reading in account.readings]
    start = min([*times, account.since or now])
    end = max([*times, min(now, account.until or now)])
    at: Any = [start, *times, end]  # matplotlib's types know of no dates
    # No epsilon at this delta: beyond every line, so it is left out and the axis says so.
    totals = [0.0, *(reading.running for reading in account.readings)]
    axes.step(
        at,
        [total if math.isfinite(total) else math.nan for total in [*totals, totals[-1]]],
        where="post",
        color=_SPENT,
        label="spent and reserved",
    )
    axes.axhline(
        allowance.epsilon,
        color=_BUDGET,
        linestyle="--",
        label=f"budget: epsilon {plainly(allowance.epsilon)}",
    )
    axes.set_ylim(0, 1.15 * max([allowance.epsilon, *filter(math.isfinite, totals)]))
    axes.set_xlim(start, account.until or end)  # type: ignore[arg-type]
    axes.set_ylabel(f"epsilon at delta {plainly(allowance.delta)}")
    ends = f", period until {account.until:%Y-%m-%d}" if account.until else ""
    axes.set_title(f"{account.dataset} under {account.agreement}{ends}", loc="left", fontsize="medium")
    axes.legend(loc="lower right", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)

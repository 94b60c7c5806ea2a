"""What can be computed: one file per analysis, and those of other packages by entry point.

`analysis.py` is what an analysis is; `query.py` is a sum over rows, which noise can be added to;
`registry.py` finds analyses and digests their code; `outline.py` says how tables go together, `feature.py` is
what owners make of their columns beforehand, and `table.py` is the shared table that analyses compute on;
`cross_products.py` is for analyses of sums of products, `groups.py` for those of sums by category,
`life_table.py` for those of events by time; `inference.py` makes tests and intervals of estimates; `cells.py`
suppresses and pools small counts, and `told.py` is about those that an answer tells without being a table;
`public_draws.py` is for simulations and choices that are public; `shown.py` is what answers look like.
Nothing here opens a value: `mpcpriv.release` does.
"""

from mpcpriv.analyses.analysis import (
    Analysis,
    Answer,
    Asked,
    ByColumn,
    Computed,
    Context,
    Derived,
    Finished,
    Opened,
    OverSecretRows,
    Perturbed,
    Private,
    Showing,
    TakesMissing,
    TellsCells,
)
from mpcpriv.analyses.registry import GROUP, digest, find, installed

__all__ = [
    "GROUP",
    "Analysis",
    "Answer",
    "Asked",
    "ByColumn",
    "Computed",
    "Context",
    "Derived",
    "Finished",
    "Opened",
    "OverSecretRows",
    "Perturbed",
    "Private",
    "Showing",
    "TakesMissing",
    "TellsCells",
    "digest",
    "find",
    "installed",
]

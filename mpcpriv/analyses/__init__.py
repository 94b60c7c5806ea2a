"""What can be computed: one file per analysis, and those of other packages by entry point.

`analysis.py` is what an analysis is; `query.py` is a sum over rows, which noise can be added to;
`registry.py` finds analyses and digests their code; `outline.py` says how tables go together, and
`table.py` is the shared table that they compute on. Nothing here opens a value: `mpcpriv.release` does.
"""

from mpcpriv.analyses.analysis import (
    Analysis,
    Answer,
    Asked,
    Computed,
    Context,
    Opened,
    Perturbed,
    Private,
)
from mpcpriv.analyses.registry import GROUP, digest, find, installed

__all__ = [
    "GROUP",
    "Analysis",
    "Answer",
    "Asked",
    "Computed",
    "Context",
    "Opened",
    "Perturbed",
    "Private",
    "digest",
    "find",
    "installed",
]

"""What can be computed: one file per analysis, and those of other packages by entry point.

`analysis.py` is what an analysis is; `registry.py` finds them and digests their code; `table.py` is the
shared table that they compute on. Nothing here opens a value: `mpcpriv.release` does.
"""

from mpcpriv.analyses.analysis import Analysis, Context, Output, Outputs, Private
from mpcpriv.analyses.registry import GROUP, digest, find, installed

__all__ = ["GROUP", "Analysis", "Context", "Output", "Outputs", "Private", "digest", "find", "installed"]

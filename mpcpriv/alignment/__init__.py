"""Private set intersection: which rows of the parties are about the same people (docs/alignment.md).

    from mpcpriv.alignment import KeyColumn, align, identify

    keys = identify(KeyColumn(names, ("nfkc", "casefold", "trim")), KeyColumn(born, ("date-dmy",)))
    found = align(transport, keys, job=digest)      at all parties at once
    aligned = table[found.rows]                     row i of everybody is about the same person

`rules.py` says how keys are written alike, `identifiers.py` makes digests of them, `group.py` is the curve,
`two.py`, `many.py` and `secret.py` (with `store.py`) are the protocols, `wire.py` what is said, `costs.py`
what it costs, `align.py` brings them together.
"""

from mpcpriv.alignment.align import Alignment, Mode, align, halve
from mpcpriv.alignment.identifiers import BadKeys, Identifiers, KeyColumn, identify
from mpcpriv.alignment.rules import RULES
from mpcpriv.alignment.secret import Half

__all__ = [
    "Alignment",
    "Mode",
    "align",
    "Half",
    "halve",
    "BadKeys",
    "Identifiers",
    "KeyColumn",
    "identify",
    "RULES",
]

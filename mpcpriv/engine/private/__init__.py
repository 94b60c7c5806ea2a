"""Training with differential privacy on shares: nothing is opened but what the program opens in the end.

`participation.py` is which rows take part in a step, `rows.py` a party's rows as they are shared,
`logistic.py` and `network.py` the clipped sums of per-example gradients and how far one row can move them,
`engine.py` what
programs use: `PrivacyEngine`, as Opacus has it.
"""

from mpcpriv.engine.private.engine import PrivacyEngine, PrivateLoader, PrivateOptimizer

__all__ = ["PrivacyEngine", "PrivateLoader", "PrivateOptimizer"]

"""Autograd of encrypted tensors: CrypTen's functions that are registered anew, and the way back through them.

`graph.py` records and goes back, and `guard.py` refuses what would lose a gradient. The others hold the
gradients, each with what was wrong with CrypTen's: `structure.py` (indices and shapes), `joins.py`,
`arithmetic.py`, `powers.py`, `reduction.py`, `functions.py`, `convolution.py`, `normalisation.py`, `loss.py`.
"""

from __future__ import annotations

from typing import Final

from crypten.cryptensor import CrypTensor
from crypten.gradients import FUNCTION_REGISTRY

from mpcpriv.engine.gradients import graph, guard
from mpcpriv.engine.gradients.arithmetic import ARITHMETIC
from mpcpriv.engine.gradients.convolution import CONVOLUTION
from mpcpriv.engine.gradients.functions import FUNCTIONS
from mpcpriv.engine.gradients.joins import JOINS
from mpcpriv.engine.gradients.loss import LOSSES
from mpcpriv.engine.gradients.normalisation import BatchNorm
from mpcpriv.engine.gradients.powers import POWERS
from mpcpriv.engine.gradients.reduction import REDUCTION
from mpcpriv.engine.gradients.structure import STRUCTURE
from mpcpriv.engine.tensor import SharedTensor

COMPOSED: Final = ("norm", "polynomial", "dot", "ger", "cosine_similarity")
"""CrypTen's gradients of these are wrong; made of others, they need none of their own."""

COMPUTED_HERE: Final = ("dropout", "_feature_dropout", "hardtanh", "relu6")
"""CrypTen's values of these are wrong or wasteful too: without a gradient the same code computes them."""


def register() -> None:
    """Puts these in the place of CrypTen's."""
    for name in COMPOSED:
        FUNCTION_REGISTRY.pop(name, None)
    tables = (
        STRUCTURE,
        JOINS,
        ARITHMETIC,
        POWERS,
        REDUCTION,
        FUNCTIONS,
        CONVOLUTION,
        LOSSES,
        {"batchnorm": BatchNorm},
    )
    for table in tables:
        for name, function in table.items():
            function.name = name
            FUNCTION_REGISTRY[name] = function
    for name in COMPUTED_HERE:
        setattr(SharedTensor, name, graph.unrecorded(FUNCTION_REGISTRY[name]))
    CrypTensor._get_autograd_forward_function = graph.recorded  # noqa: SLF001 - what all calls go through
    CrypTensor.backward = graph.backward
    guard.guard()

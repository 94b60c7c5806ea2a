"""The encrypted tensor that CrypTen makes: storage, arithmetic, comparison, functions, ranges, in order."""

from mpcpriv.engine.tensor import ranges
from mpcpriv.engine.tensor.functions import SharedTensor

__all__ = ["SharedTensor"]

ranges.check(SharedTensor)

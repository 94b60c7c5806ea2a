"""The encrypted tensor, registered with CrypTen: storage, arithmetic, comparison, functions, in this order."""

from mpcpriv.engine.tensor.functions import SharedTensor

__all__ = ["SharedTensor"]

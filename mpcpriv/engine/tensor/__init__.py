"""The encrypted tensor that CrypTen makes: storage, arithmetic, comparison, functions, in this order."""

from mpcpriv.engine.tensor.functions import SharedTensor

__all__ = ["SharedTensor"]

"""Pseudo-random generators: AES-128 in counter mode, one independent stream per (key, purpose, index).

Nothing secret in mpcpriv is drawn from anything else than these streams and the operating system.
A key is never used for two purposes: HKDF-SHA256 (RFC 5869) with the purpose as `info` separates
the domains. A stream's index is the upper half of the initial counter block (NIST SP 800-38A,
section 6.5), so streams of one key never overlap below 2^64 blocks each.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES: Final = 16
_ZEROS: Final = bytes(1 << 20)


def derive_key(secret: bytes, *, salt: bytes, purpose: str, length: int = KEY_BYTES) -> bytes:
    """HKDF-SHA256 of `secret`, bound to the job (`salt`) and to one `purpose`."""
    return HKDF(SHA256(), length, salt, purpose.encode()).derive(secret)


def raw(tensor: torch.Tensor) -> memoryview:
    """The memory of a contiguous, non-empty tensor as bytes; nothing is copied."""
    return memoryview(tensor.numpy()).cast("B")  # type: ignore[arg-type]


class Stream:
    """One keystream, read from its beginning or from a word (8 bytes) of it on."""

    def __init__(self, key: bytes, index: int, start: int = 0) -> None:
        # CTR is right here and nowhere else in the project: the output is the keystream itself.
        block = index.to_bytes(8, "big") + (start // 2).to_bytes(8, "big")
        self._key = key
        self._encryptor = Cipher(algorithms.AES(key), modes.CTR(block)).encryptor()
        self._encryptor.update(bytes(8 * (start % 2)))  # half a block

    def tensor(self, shape: tuple[int, ...], dtype: torch.dtype = torch.int64) -> torch.Tensor:
        """The next uniform integers of the full width of `dtype` (int8 .. int64), in `shape`."""
        result = torch.empty(math.prod(shape), dtype=dtype)
        if result.numel():
            out = raw(result)
            for start in range(0, len(out), len(_ZEROS)):
                piece = out[start : start + len(_ZEROS)]
                self._encryptor.update_into(memoryview(_ZEROS)[: len(piece)], piece)
        return result.reshape(shape)

    def other(self, index: int, start: int) -> Stream:
        """Another stream of the same key, from a word on: what was read there is read again."""
        return Stream(self._key, index, start)

    def __repr__(self) -> str:
        return "Stream(<key>)"


class Prg:
    """A key that yields numbered streams; its value never shows."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes")
        self._key = key

    def stream(self, index: int) -> Stream:
        """The stream of this number, in [0, 2^64); the same number gives the same stream."""
        return Stream(self._key, index)

    def __repr__(self) -> str:
        return "Prg(<key>)"

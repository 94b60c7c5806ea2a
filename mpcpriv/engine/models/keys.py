"""The keys that saved shares are encrypted with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from mpcpriv.errors import UsageError

KEY_VARIABLE: Final = "MPCPRIV_STORAGE_KEY"
"""The environment variable that names the key file where a program names none."""

_KEY_BYTES: Final = 32


def new_key(path: str | os.PathLike[str]) -> Path:
    """Writes a fresh key to a new file that only its owner can read.

    Raises:
        UsageError: the file exists.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UsageError(f"{path} exists: a key is never overwritten") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(os.urandom(_KEY_BYTES))
    return Path(path)


def key_of(key_file: str | os.PathLike[str] | None, passphrase: str | None, salt: bytes) -> bytes:
    """The key of a file that only its owner can read, or of a passphrase.

    Raises:
        UsageError: neither or both are given, or the file is none such.
    """
    if passphrase is not None:
        if key_file is not None:
            raise UsageError("give key_file or passphrase, not both")
        if not passphrase:
            raise UsageError("an empty passphrase protects nothing")
        return Scrypt(salt=salt, length=_KEY_BYTES, n=1 << 15, r=8, p=1).derive(passphrase.encode())
    path = key_file or os.environ.get(KEY_VARIABLE)
    if not path:
        raise UsageError(
            "saved shares are encrypted: give key_file= (made by mpcpriv.engine.models.keys.new_key), "
            f"passphrase=, or name a key file in {KEY_VARIABLE}"
        )
    file = Path(path)
    try:
        mode, key = file.stat().st_mode, file.read_bytes()
    except OSError as error:
        raise UsageError(f"key file {path}: {error.strerror}") from None
    if os.name == "posix" and mode & 0o077:
        raise UsageError(f"key file {path} can be read by others: chmod 600 {path}")
    if len(key) != _KEY_BYTES:
        raise UsageError(f"key file {path} holds {len(key)} bytes; a key has {_KEY_BYTES}")
    return key

"""Saving what is encrypted: each party its own shares, in a file that only it can read.

A file is a line of text, a header (an `engine.objects` object: who saved it, of which parties, which
save it was) and the shares, encrypted and bound to the header with AES-256-GCM (NIST SP 800-38D). The
key is 32 bytes in a file that only its owner can read, or is derived from a passphrase with scrypt
(RFC 7914, N = 2^15, r = 8, p = 1). Nothing is pickled: reading a file executes nothing.

The shares of a save belong together: every party must load its file of the same save, in a session of
the same parties in the same order.
"""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path
from typing import Any, BinaryIO, Final

import torch
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mpcpriv.engine import objects, session
from mpcpriv.engine.communicator import Communicator
from mpcpriv.engine.models.converted import Converted
from mpcpriv.engine.models.keys import key_of
from mpcpriv.engine.tensor import SharedTensor
from mpcpriv.errors import Unsupported, UsageError

MAGIC: Final = b"mpcpriv shares, version 1\n"
_HEADER_LIMIT: Final = 1 << 20

File = str | os.PathLike[str] | BinaryIO


def save(
    obj: Any, f: File, *, key_file: str | os.PathLike[str] | None = None, passphrase: str | None = None
) -> None:
    """Saves this party's shares of encrypted tensors, alone, in lists or dicts, or of a converted model.

    Every party calls it, each with a file and a key of its own (one round).

    Args:
        obj: an encrypted tensor, a `state_dict()`, a converted model, or lists and dicts of them;
            public numbers, text and plain tensors may stand among them.
        f: a path, or a file open for writing bytes.
        key_file: made by `new_key`; by default what the environment's MPCPRIV_STORAGE_KEY names.
        passphrase: in the place of a key file.

    Raises:
        UsageError: neither key nor passphrase, or a key file that others can read.
        Unsupported: an object that cannot be saved without executing code when it is loaded.
    """
    s = session.current()
    content = objects.encode(_packed(obj))
    common = Communicator.get().broadcast_obj(os.urandom(16) if s.rank == 0 else None, 0)
    salt, nonce = os.urandom(16), os.urandom(12)
    header = objects.encode(
        {
            "party": s.parties[s.rank],
            "rank": s.rank,
            "parties": list(s.parties),
            "save": common,
            "passphrase": passphrase is not None,
            "salt": salt,
            "nonce": nonce,
        }
    )
    front = MAGIC + struct.pack(">I", len(header)) + header
    data = front + AESGCM(key_of(key_file, passphrase, salt)).encrypt(nonce, content, front)
    if isinstance(f, (str, os.PathLike)):
        descriptor = os.open(f, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    else:
        f.write(data)
    Communicator.get().barrier()


def load(f: File, *, key_file: str | os.PathLike[str] | None = None, passphrase: str | None = None) -> Any:
    """Loads what `save` saved; every party calls it, each with its own file (one round).

    Raises:
        UsageError: not such a file, another party's, of other parties, of another save than the others
            load, changed, or locked with another key.
    """
    s = session.current()
    name = str(f) if isinstance(f, (str, os.PathLike)) else getattr(f, "name", "the file")
    data = Path(f).read_bytes() if isinstance(f, (str, os.PathLike)) else f.read()
    header, end = _header(data, name)
    if header["parties"] != list(s.parties):
        raise UsageError(
            f"{name} was saved by {', '.join(map(str, header['parties']))}; this session is of "
            f"{', '.join(s.parties)}"
        )
    if header["rank"] != s.rank:
        raise UsageError(f"{name} holds the shares of {header['party']}; this is {s.parties[s.rank]}")
    _same_save(header["save"], name)
    if header["passphrase"] != (passphrase is not None):
        kind = "a passphrase" if header["passphrase"] else "a key file"
        raise UsageError(f"{name} is locked with {kind}: give that one")
    key = AESGCM(key_of(key_file, passphrase, header["salt"]))
    try:
        content = key.decrypt(header["nonce"], data[end:], data[:end])
    except InvalidTag:
        raise UsageError(f"{name} was changed, or is locked with another key") from None
    return _unpacked(objects.decode(content))


def _header(data: bytes, name: str) -> tuple[dict[str, Any], int]:
    start = len(MAGIC) + 4
    if not data.startswith(MAGIC) or len(data) < start:
        raise UsageError(f"{name} is not a file of shares: crypten.save writes those")
    (length,) = struct.unpack(">I", data[len(MAGIC) : start])
    if length > min(_HEADER_LIMIT, len(data) - start):
        raise UsageError(f"{name} is cut off")
    header = objects.decode(data[start : start + length])
    wanted = {
        "party": str, "rank": int, "parties": list, "save": bytes, "passphrase": bool, "salt": bytes,
        "nonce": bytes,
    }  # fmt: skip
    if not isinstance(header, dict) or {k: type(v) for k, v in header.items()} != wanted:
        raise UsageError(f"{name} has a malformed header")
    return header, start + length


def _same_save(save_id: bytes, name: str) -> None:
    """Every party must hold shares of the same save: of others the sum means nothing."""
    s = session.current()
    mine = torch.frombuffer(bytearray(hashlib.sha256(save_id).digest()), dtype=torch.int64)
    others = [rank for rank in range(s.size) if rank != s.rank]
    found = s.exchange("load: which save", dict.fromkeys(others, [mine]), others, like=[mine])
    for rank, (theirs,) in found.items():
        if not torch.equal(mine, theirs):
            raise UsageError(f"{name} belongs to another save than the file of {s.parties[rank]}")


def _packed(value: Any) -> Any:
    match value:
        case SharedTensor():
            return {"kind": "tensor", "share": value.share, "bits": value.bits, "grad": value.requires_grad}
        case Converted():
            state = [_packed(v) for v in value.state_dict().values()]
            held = {"architecture": value.architecture(), "state": state}
            return {"kind": "model", **held, "encrypted": value.encrypted, "training": value.training}
        case dict():
            return {
                "kind": "dict",
                "keys": list(value.keys()),
                "values": [_packed(v) for v in value.values()],
            }
        case list() | tuple() if not isinstance(value, torch.Size):
            return {"kind": type(value).__name__, "items": [_packed(v) for v in value]}
        case None | bool() | int() | float() | str() | bytes() | torch.Tensor() | torch.Size():
            return {"kind": "value", "value": value}
    raise Unsupported(
        f"a {type(value).__name__} cannot be saved without executing code when it is loaded: save its "
        "state_dict(), and load that into a model made by the program"
    )


def _unpacked(value: Any) -> Any:
    try:
        match value["kind"]:
            case "tensor":
                tensor = SharedTensor.of(session.current().given(value["share"]), int(value["bits"]))
                tensor.requires_grad = bool(value["grad"])
                return tensor
            case "model":
                return _model(value)
            case "dict":
                return dict(zip(value["keys"], map(_unpacked, value["values"]), strict=True))
            case "list":
                return [_unpacked(v) for v in value["items"]]
            case "tuple":
                return tuple(_unpacked(v) for v in value["items"])
            case "value":
                return value["value"]
    except (KeyError, TypeError):
        raise UsageError("malformed content") from None
    raise UsageError("content of an unknown kind")


def _model(value: dict[str, Any]) -> Converted:
    model = Converted.from_architecture(value["architecture"])
    model.encrypted = bool(value["encrypted"])
    names = list(model.state_dict())
    for name, packed in zip(names, value["state"], strict=True):
        put = model.set_parameter if name in dict(model.named_parameters()) else model.set_buffer
        put(name, _unpacked(packed))
    model.train(bool(value["training"]))
    return model

"""The engine's bytes are those of tests/vectors/v1/engine.json: the same in every release of this version."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from mpcpriv.engine import encoding, objects
from mpcpriv.engine.correlation import wire
from mpcpriv.engine.correlation.base import Slot, correct
from mpcpriv.engine.prg import Prg, derive_key
from mpcpriv.engine.session import Session
from mpcpriv.errors import RangeError, UsageError
from tests.protocol.parties import Sight, run
from tests.vectors import engine

HELD: dict[str, Any] = json.loads(engine.PATH.read_text())


def test_the_file_is_what_the_script_writes() -> None:
    assert json.loads(json.dumps(engine.vectors())) == HELD


@pytest.mark.parametrize("vector", HELD["streams"], ids=str)
def test_keystreams(vector: dict[str, Any]) -> None:
    stream = Prg(bytes.fromhex(vector["key"])).stream(vector["index"])
    # In two pieces, which must join without a gap.
    pieces = stream.tensor((2,)), stream.tensor((3,))
    assert b"".join(piece.numpy().tobytes() for piece in pieces).hex() == vector["bytes"]


def test_a_keystream_is_aes_in_counter_mode() -> None:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    vector = HELD["streams"][1]
    block = vector["index"].to_bytes(8, "big") + bytes(8)
    cipher = Cipher(algorithms.AES(bytes.fromhex(vector["key"])), modes.ECB())
    assert vector["bytes"].startswith(cipher.encryptor().update(block).hex())


@pytest.mark.parametrize("vector", HELD["derivations"], ids=str)
def test_derived_keys(vector: dict[str, Any]) -> None:
    secret, salt = bytes.fromhex(vector["secret"]), vector["salt"].encode()
    assert derive_key(secret, salt=salt, purpose=vector["purpose"]).hex() == vector["key"]


def test_a_pair_s_key_binds_both_contributions_the_members_and_the_purpose() -> None:
    sight = Sight()

    def held(session: Session) -> tuple[bytes, bytes]:
        return session._zero_keys[1 - session.rank]._key, session.correlations._prg._key

    keys = run(2, held, sight=sight)
    sent = {pair: messages[0] for pair, messages in sight.received.items()}

    def expected(low: int, high: int, purpose: str) -> bytes:
        # `received` is by (receiver, sender); the lower rank's contribution stands first.
        secret = sent[high, low] + sent[low, high]
        return derive_key(secret, salt=b"alice|bob|dealer", purpose=f"mpcpriv/v1/{purpose}")

    for rank, (with_peer, with_dealer) in enumerate(keys):
        assert with_peer == expected(0, 1, "zero-share")
        assert with_dealer == expected(rank, 2, "dealer")
    assert keys[0][1] != keys[1][1]


def test_no_two_purposes_or_streams_share_a_key() -> None:
    keys = [vector["key"] for vector in HELD["derivations"]]
    assert len(set(keys)) == len(keys)
    streams = [vector["bytes"] for vector in HELD["streams"]]
    assert len(set(streams)) == len(streams)


@pytest.mark.parametrize("vector", HELD["encodings"], ids=lambda v: str(v["value"]))
def test_encodings(vector: dict[str, Any]) -> None:
    units = encoding.encode(vector["value"])
    assert int(units) == vector["units"]
    assert float(encoding.decode(units)) == vector["decoded"]


@pytest.mark.parametrize("name", HELD["correlations"])
def test_what_is_dealt_for_fixed_keys(name: str) -> None:
    vector = HELD["correlations"][name]
    first, (request,) = wire.decode(bytes.fromhex(vector["request"]))
    assert first == vector["index"]
    assert request == engine.REQUESTS[name]
    assert engine.correlation(first, request) == vector


@pytest.mark.parametrize("name", HELD["correlations"])
def test_what_is_dealt_is_what_the_kind_promises(name: str) -> None:
    """From the file alone: masks and derived shares add up to a true correlation."""
    vector, request = HELD["correlations"][name], engine.REQUESTS[name]

    def total(shares: list[list[str]], slots: tuple[Slot, ...]) -> list[torch.Tensor]:
        totals = [torch.zeros(slot.shape, dtype=slot.dtype) for slot in slots]
        for share in shares:
            for slot, into, data in zip(slots, totals, share, strict=True):
                if not slot.nbytes:
                    continue
                piece = torch.frombuffer(bytearray.fromhex(data), dtype=slot.dtype).reshape(slot.shape)
                slot.combine_(into, piece)
        return totals

    masks = total(vector["masks"], request.masks())
    shares = [vector["correction"] if share is None else share for share in vector["derived"]]
    assert vector["derived"].index(None) == vector["owner"] == vector["index"] % engine.PARTIES
    derived = total(shares, request.derived())
    for found, promised in zip(derived, request.derive(*masks), strict=True):
        assert torch.equal(found, promised)
    if name == "mul":
        assert torch.equal(derived[0], masks[0] * masks[1])
    if name == "square":
        assert torch.equal(derived[0], masks[0] ** 2)
    if name == "dabit":
        assert torch.equal(derived[0], (masks[0] & 1).long())
    if name == "truncation by 16":
        wide = [int(r) % 2**64 for r in masks[0]]
        assert derived[0].tolist() == [(r % 2**63) >> 16 for r in wide]
        assert [int(top) % 2 for top in derived[1]] == [r >> 63 for r in wide]
    if name == "threshold":
        for r, lanes in zip(masks[0].tolist(), derived[0].tolist(), strict=True):
            for digit in range(16):
                lane = (lanes[digit // 4] % 2**64) >> (16 * (digit % 4)) & 0xFFFF
                assert lane == 1 << (((r % 2**63) >> (4 * digit)) & 15)


def test_a_mask_that_is_used_again_is_what_was_drawn() -> None:
    held = HELD["correlations"]
    for rank in range(engine.PARTIES):
        of = {name: vector["masks"][rank] for name, vector in held.items()}
        assert of["matmul of two masks"] == of["mul"]
        assert of["conv1d by a mask"][1] == of["conv1d"][1]
        assert of["mul of a mask by itself"][0] == of["mul of a mask by itself"][1]
        assert of["matmul by the transpose of a mask"][0] == of["matmul"][1]


def test_the_correction_depends_on_every_key() -> None:
    request = engine.REQUESTS["square"]
    keys = [engine.key(rank) for rank in range(3)]
    held = correct(request, 6, [Prg(key) for key in keys])[0]
    for rank in range(3):
        others = [Prg(bytes(16) if r == rank else key) for r, key in enumerate(keys)]
        assert not torch.equal(correct(request, 6, others)[0], held)


def test_a_batch_of_all_requests() -> None:
    data = bytes.fromhex(HELD["deal"])
    assert wire.decode(data) == (2**40, list(engine.REQUESTS.values()))
    assert wire.encode(engine.REQUESTS.values(), 2**40) == data


@pytest.mark.parametrize("name", HELD["objects"])
def test_objects(name: str) -> None:
    data = bytes.fromhex(HELD["objects"][name])
    assert objects.encode(engine.OBJECTS[name]) == data
    assert objects.encode(objects.decode(data)) == data


@pytest.mark.parametrize("name", HELD["bad requests"])
def test_bad_requests(name: str) -> None:
    with pytest.raises(UsageError):
        wire.decode(bytes.fromhex(HELD["bad requests"][name]))


@pytest.mark.parametrize("name", HELD["bad objects"])
def test_bad_objects(name: str) -> None:
    with pytest.raises(UsageError):
        objects.decode(bytes.fromhex(HELD["bad objects"][name]))


@pytest.mark.parametrize("value", HELD["bad values"])
def test_bad_values(value: str) -> None:
    with pytest.raises(RangeError):
        encoding.encode(float(value))

"""Small inputs that the parsers accept. Small: the shorter a document, the more edits of it in an hour."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import rfc8785
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mpcpriv.audit.receipt import make_receipt
from mpcpriv.documents import public_key, sign
from mpcpriv.engine import objects
from mpcpriv.engine.correlation import wire as dealing
from mpcpriv.engine.correlation.base import Words
from mpcpriv.engine.correlation.bits import DaBit
from mpcpriv.engine.correlation.comparison import ThresholdMask
from mpcpriv.engine.correlation.product import Mask, SquarePair, Triple
from mpcpriv.engine.correlation.shuffle import Shuffle
from mpcpriv.engine.correlation.truncation import TruncationMask
from mpcpriv.engine.ring import Bilinear
from mpcpriv.party.records import (
    AuditHead,
    Body,
    Commitment,
    Countersigned,
    Decision,
    Outcome,
    Proposal,
    Ready,
    Record,
    Share,
)
from mpcpriv.release import Layout
from mpcpriv.transport.frame import Frame, Kind, encode
from mpcpriv.transport.hello import Hello, encode_hello
from tests.unit import agreements, audit_logs

KEY: Ed25519PrivateKey = agreements.key("alice")
PUBLIC = public_key(KEY)


def _agreement() -> Any:
    content = agreements.content()
    owners = ("alice", "bob")
    return agreements.agreement(
        members=[*map(agreements.member, owners), agreements.member("dealer", "dealer")],
        datasets=[agreements.dataset("alice")],
        analyses=[
            {
                **content["analyses"][0],
                "inputs": {"alice-patients": ["age", "radius"]},
                "parameters": {"steps": {"low": 1.0, "high": 200.0}, "solver": {"choices": ["adam", "sgd"]}},
            }
        ],
    )


AGREEMENT = _agreement()
SIGNED_AGREEMENT = agreements.sign_all(AGREEMENT)
CERTIFICATE = agreements.certificate("alice").encode()
INPUTS = [{"dataset": "alice-patients", "columns": ["age", "radius"]}]
A_JOB = agreements.job(inputs=INPUTS)
SIGNED_JOB = agreements.signed_job(inputs=INPUTS)

RECEIPT = make_receipt(KEY, "alice", "bob", 7, "c" * 64)
BODIES: tuple[Body, ...] = (
    Decision(accept=False, reasons=["too much", 'é "quoted" \U0001f600']),
    Decision(accept=True),
    Ready(address="alice.example:9301", epoch="0123456789abcdef" * 2),
    Outcome(success=True, output="e" * 64, head=AuditHead(sequence=9, entry="f" * 64)),
    Outcome(success=False, reason="the worker was killed", head=AuditHead(sequence=0, entry="0" * 64)),
    Countersigned(receipt=RECEIPT),
    Commitment(
        rows={"alice-patients": 120},
        layout=[Layout(name="query", size=2, bits=0)],
        transcript="1" * 64,
        share="2" * 64,
        inputs="3" * 64,
    ),
    Share.of(bytes(48)),
    Proposal(document=SIGNED_JOB.to_bytes().decode()),
)


def record(body: Body, member: str = "alice") -> Record:
    return Record(agreement=AGREEMENT.digest(), job=SIGNED_JOB.job.digest(), member=member, body=body)


RECORDS = tuple(record(body).canonical() for body in BODIES)
SIGNATURE = sign(KEY, "record", RECORDS[0])


def _lines() -> tuple[bytes, ...]:
    with tempfile.TemporaryDirectory() as folder:
        with audit_logs.three_logs(Path(folder)) as logs:
            audit_logs.job(logs, 1)
            log = logs["alice"]
            log.append("decided", job="2" * 64, by="bob", decision="refuse", reasons=["é, ü and \U0001f600"])
            log.append("outcome", job="2" * 64, by="bob", outcome="failure", reason="the worker was killed")
            log.append("cancelled", job="2" * 64, by="bob")
            log.append("fetched", job="2" * 64, by="alice", output_digest="b" * 64)
            log.append(
                "agreement-added",
                agreement="a",
                version=1,
                agreement_digest="b" * 64,
                members=["alice", "bob"],
            )
        return tuple(audit_logs.path_of(Path(folder), "alice").read_bytes().splitlines())


LINES = _lines()


def seal(content: dict[str, Any]) -> bytes:
    """The line of a log with a digest and a signature that fit it, whatever it says."""
    body = {name: part for name, part in content.items() if name not in ("digest", "signature")}
    digest = hashlib.sha256(rfc8785.dumps(body)).hexdigest()
    mark = sign(audit_logs.KEYS["alice"], "audit-entry", digest.encode())
    return rfc8785.dumps({**body, "digest": digest, "signature": mark})


MEMBERS = ("alice", "bob", "carol")
JOB, STREAM = b"sixteen bytes ok", bytes(range(32))
FRAMES = tuple(
    encode(one)
    for one in (
        Frame(Kind.DATA, 1, 1, JOB, STREAM, 100, b"a piece"),
        Frame(Kind.DATA, 2, 1, JOB, STREAM, None, b"another piece"),
        Frame(Kind.DATA, 2, 1, JOB, STREAM, None, bytes(93)),
        Frame(Kind.ABORT, 2, 1, JOB, STREAM, culprit="bob", reason="gone away"),
        Frame(Kind.FINISH, 2, 1, JOB, STREAM),
    )
)
HELLO = encode_hello(Hello("1.0", JOB, (("members", "alice, bob"), ("program", "12ab")), bytes(32)))

DEALS = tuple(
    dealing.encode(requests, first)
    for first, requests in (
        (0, [SquarePair((3, 4)), TruncationMask((5,), 16), DaBit((2, 2)), Shuffle(2, 5, 3)]),
        (7, [ThresholdMask(10, 2, 3, 16)]),
        (9, [Triple(Bilinear("mul"), (2, 3), (2, 3)), Triple(Bilinear("matmul"), (2, 3), (3, 4))]),
        (12, [Triple(Bilinear("matmul"), (2, 3), (3, 4), Mask((1, 0), Words(3, 0)), Mask((), None))]),
    )
)

VALUES: tuple[Any, ...] = (
    None,
    {"a": [1, 2.5, "text", b"raw", True], "b": (None, torch.Size([2, 3])), 3: {}},
    torch.arange(6).reshape(2, 3),
    np.zeros((2, 0, 3), dtype=np.float32),
    [[[[[[1]]]]]],
)
OBJECTS = tuple(objects.encode(value) for value in VALUES)
PARTY_TOML = b"""name = "alice"
key = "tls.key"
certificate = "tls.crt"
signing_key = "signing.key"

[daemon]
listen = "0.0.0.0:9400"
state = "state.sqlite"
data_host = "alice.example"
concurrent_jobs = 2
memory_gb = 8.5
minutes = 60

[control]
socket = "127.0.0.1:9400"

[data]
patients = "patients.csv"
"""
CLUSTER_TOML = b"""[[party]]
name = "alice"
address = "alice.example:9301"
certificate = "alice.crt"

[[party]]
name = "bob"
address = "[::1]:9302"
certificate = "bob.crt"

[dealer]
name = "dealer"
address = "dealer.example:9303"
certificate = "dealer.crt"

[limits]
connect = 60
wait = 600.5
message = 1073741824
"""

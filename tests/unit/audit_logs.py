"""Logs to try things on: three members who propose, decide, run and countersign."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mpcpriv.audit.log import AuditLog
from mpcpriv.documents import public_key

MEMBERS = ("alice", "bob", "carol")
KEYS = {name: Ed25519PrivateKey.generate() for name in MEMBERS}
PUBLIC = {name: public_key(key) for name, key in KEYS.items()}
AGREEMENT = "a" * 64


def path_of(folder: Path, name: str) -> Path:
    return folder / f"{name}.jsonl"


@contextmanager
def three_logs(folder: Path) -> Iterator[dict[str, AuditLog]]:
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(AuditLog(path_of(folder, name), key, name))
            for name, key in KEYS.items()
        }


def job(logs: dict[str, AuditLog], number: int) -> None:
    """A job that goes well, as all three write it down; then they countersign each other's heads."""
    digest = f"{number:064x}"
    under = {"job": digest, "agreement": "hospitals", "version": 1, "agreement_digest": AGREEMENT}
    for log in logs.values():
        log.append(
            "proposed",
            **under,
            submitter="alice",
            analysis="mean",
            purpose="research",
            datasets=["cohort"],
            recipients=["alice"],
        )
        log.append("decided", job=digest, by=log.owner, decision="accept", approval="steward")
        log.append("started", **under, parties=MEMBERS, dealer="dealer")
        log.append("released", **under, analysis="mean", recipients=("alice",), share_digest="b" * 64)
        log.append("outcome", job=digest, by=log.owner, outcome="success", output_digest="c" * 64)
    heads = {name: log.head() for name, log in logs.items()}
    for owner, head in heads.items():
        for peer in MEMBERS:
            if peer != owner:
                receipt = logs[peer].give_receipt(owner, head.seq, head.digest)
                logs[owner].keep_receipt(receipt, PUBLIC[peer])

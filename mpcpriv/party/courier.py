"""Delivers what stands in the outbox to one other daemon, until it has confirmed it."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from typing import Any, Final

import structlog

from mpcpriv.agreement.model import Member
from mpcpriv.party.state import Letter, State
from mpcpriv.party.wire import DELIVER, channel, stub
from mpcpriv.transport.grpc import grpc
from mpcpriv.transport.tls import Certificate, Identity
from mpcpriv.v1 import control_pb2

_CALL_SECONDS: Final = 10.0
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 2.0

# The peer has looked at the record and will never take it; anything else may pass.
_FOR_EVER: Final = frozenset({grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.ALREADY_EXISTS})

log = structlog.get_logger()


@dataclass(frozen=True)
class Peer:
    """Another member's daemon, as an agreement has it.

    Attributes:
        certificate: exactly which it must show.
        address: `host:port`.
    """

    certificate: Certificate
    address: str

    @property
    def key(self) -> str:
        """What the outbox calls it: a member that moves is another peer."""
        return peer_key(self.certificate.party, self.certificate.pem.decode(), self.address)

    @property
    def name(self) -> str:
        """The member's name."""
        return self.certificate.party


def peer_key(name: str, pem: str, address: str) -> str:
    """SHA-256 over a member's name, certificate and address."""
    return hashlib.sha256(f"{name}\0{pem.strip()}\0{address}".encode()).hexdigest()


def key_of(member: Member) -> str:
    """The same for a member of an agreement."""
    return peer_key(member.name, member.certificate, member.endpoint)


class Courier:
    """A thread per peer, so that one that is not there keeps nothing from the others."""

    def __init__(self, identity: Identity, peer: Peer, state: State) -> None:
        self.peer = peer
        self._state = state
        self._call = channel(identity, peer.certificate, peer.address)
        self._deliver = stub(self._call, DELIVER)
        self._wake = threading.Event()
        self._over = False
        self._said: str | None = None
        self._thread = threading.Thread(target=self._run, name=f"mpcpriv to {peer.name}", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There may be something new."""
        self._wake.set()

    def close(self) -> None:
        """Delivers nothing more."""
        self._over = True
        self._wake.set()
        self._call.close()
        self._thread.join(_CALL_SECONDS)

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while not self._over:
            self._wake.clear()
            done = self._round()
            if any(done):
                pause = _FIRST_PAUSE
            if not all(done):
                self._wake.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            elif not done:
                self._wake.wait()

    def _round(self) -> list[bool]:
        """Tries each letter once: one that must wait, or many, keep nothing back that comes after them."""
        done: list[bool] = []
        last = 0
        while not self._over and (letters := self._state.outbox(self.peer.key, after=last)):
            done += [self._send(letter) for letter in letters]
            if self._said == str(grpc.StatusCode.UNAVAILABLE):
                break  # it is not there: the next letter would not come through either
            last = letters[-1].number
        return done

    def _send(self, letter: Letter) -> bool:
        if self._over:
            return False
        message = control_pb2.SignedRecord(record=letter.record, signature=letter.signature)
        try:
            self._deliver(message, timeout=_CALL_SECONDS)
        except (grpc.RpcError, ValueError) as error:  # ValueError: the channel was closed meanwhile
            refusal: Any = error if isinstance(error, grpc.RpcError) else None
            code = refusal.code() if refusal is not None else None
            if code in _FOR_EVER:
                log.warning("a peer will not take a record", peer=self.peer.name, why=refusal.details())
            else:
                if self._said != str(code):
                    log.info("a peer cannot take records now", peer=self.peer.name, code=str(code))
                    self._said = str(code)
                return False
        else:
            self._said = None
        self._state.delivered(letter.number, self.peer.key)
        return True

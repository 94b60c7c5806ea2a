"""The Control service of one's own daemon; each failure in words that name the daemon and the way out.

The daemon shows the party's own certificate and the client shows the same one: exactly this certificate is
the trust anchor on both sides, so nobody else is asked and nobody else may ask.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from google.protobuf.message import Message

from mpcpriv.errors import DaemonError, MpcprivError, UsageError
from mpcpriv.party import wire
from mpcpriv.party.config import Party
from mpcpriv.transport.grpc import grpc  # set up there before it is imported

ANSWER: Final = 20.0
"""Seconds within which a daemon answers; watching takes as long as the job."""


class NotFound(UsageError):
    """The daemon knows no such thing."""


class Control:
    """Calls to one's own daemon.

    Args:
        party: whose.

    Raises:
        UsageError: its configuration says of no daemon.
    """

    def __init__(self, party: Party) -> None:
        if party.control is None:
            raise UsageError(
                f"{party.path}: it configures no daemon; write [daemon] with listen, or [control] with socket"
            )
        self.address = party.control
        self._name, self._config = party.name, party.path
        self._channel = wire.channel(party.identity, party.identity.certificate, self.address)

    def call(self, method: wire.Method, request: Message) -> Any:
        """The daemon's answer.

        Raises:
            UsageError: the daemon says what is wrong with the request; `NotFound` if there is no such thing.
            DaemonError: it does not answer, or refuses this party.
        """
        try:
            return wire.stub(self._channel, method)(request, timeout=ANSWER)
        except grpc.RpcError as error:
            raise self._in_words(error) from None

    def stream(self, method: wire.Method, request: Message, seconds: float | None) -> Iterator[Any]:
        """The daemon's answers, one after another.

        Args:
            method: one that streams.
            request: as it wants it.
            seconds: how long; None is as long as it takes. It then ends without an error.

        Raises:
            UsageError, DaemonError: as `call`.
        """
        answers = wire.stub(self._channel, method)(request, timeout=seconds)
        try:
            yield from answers
        except grpc.RpcError as error:
            if seconds is not None and error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                return
            raise self._in_words(error) from None
        finally:
            answers.cancel()  # whoever stops listening must not leave the daemon talking

    def close(self) -> None:
        """Hangs up."""
        self._channel.close()

    def _in_words(self, error: Any) -> MpcprivError:
        code, codes = error.code(), grpc.StatusCode
        said = (error.details() or "").strip()
        daemon = f"{self._name}'s daemon at {self.address}"
        if code == codes.NOT_FOUND:
            return NotFound(said or f"{daemon} knows no such thing")
        if code in {codes.INVALID_ARGUMENT, codes.FAILED_PRECONDITION, codes.ALREADY_EXISTS}:
            return UsageError(said or f"{daemon} refuses this and does not say why")
        if code == codes.UNAVAILABLE and ("handshake" in said.lower() or "certificate" in said.lower()):
            return DaemonError(
                f"{self.address} answers, but not with the certificate that {self._config} names, so it is "
                f"not {self._name}'s daemon; correct the address, or start the daemon with this certificate"
            )
        if code == codes.UNAVAILABLE:
            return DaemonError(
                f"{daemon} does not answer; is `mpcpriv party serve --config {self._config}` running?"
            )
        if code == codes.DEADLINE_EXCEEDED:
            return DaemonError(
                f"{daemon} is there and did not answer within {ANSWER:.0f} s; look into its log"
            )
        if code in {codes.UNAUTHENTICATED, codes.PERMISSION_DENIED}:
            return DaemonError(
                f"{daemon} takes no orders from the certificate that {self._config} names; "
                "name the party.toml with which it was started"
            )
        if code == codes.UNIMPLEMENTED:
            return DaemonError(f"{daemon} does not know this call; install the same mpcpriv on both sides")
        if code == codes.CANCELLED:
            return DaemonError(f"{daemon} broke off: it is being stopped")
        return DaemonError(f"{daemon} failed ({code.name.lower()}); {said or 'look into its log'}")

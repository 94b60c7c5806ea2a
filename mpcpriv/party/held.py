"""The agreements that this member is in, and whom they let in."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import UTC, datetime

from mpcpriv.agreement.signed import SignedAgreement
from mpcpriv.documents import listed
from mpcpriv.errors import UsageError
from mpcpriv.party.courier import Peer
from mpcpriv.party.state import State, Unknown
from mpcpriv.transport.tls import Certificate, Identity, parse_certificate


@dataclass(frozen=True)
class Held:
    """An agreement that all its members, this one among them, have signed.

    Attributes:
        signed: the agreement.
        digest: of its terms.
        certificates: by member.
        peers: the daemons of the others.
    """

    signed: SignedAgreement
    digest: str
    certificates: dict[str, Certificate]
    peers: tuple[Peer, ...]

    @property
    def deciders(self) -> tuple[str, ...]:
        """All members."""
        return tuple(member.name for member in self.signed.agreement.members)

    @property
    def runners(self) -> tuple[str, ...]:
        """Who runs a worker: the computing members by rank, then the dealer."""
        return (*self.signed.agreement.parties(), self.signed.agreement.dealer())

    def signing_key(self, member: str) -> str | None:
        """The public key of a member's signatures; None for a stranger."""
        found = self.signed.agreement.member(member)
        return None if found is None else found.signing_key


class Agreements:
    """All that are held. Methods may be called from any thread.

    Args:
        identity: this member's.
        signing_key: the public half of this member's signing key.
        state: where they are kept.
    """

    def __init__(self, identity: Identity, signing_key: str, state: State) -> None:
        self._identity = identity
        self._signing_key = signing_key
        self._state = state
        self._lock = threading.Lock()
        self._held: dict[str, Held] = {}
        self._certificates: tuple[Certificate, ...] = (identity.certificate,)
        for document in state.agreements():
            self._take(SignedAgreement.from_bytes(document))

    def add(self, document: bytes) -> tuple[Held, bool]:
        """Keeps an agreement; says whether it is new here.

        Raises:
            UsageError: it is none, is not signed by all, is not with this member as it is, or is older
                than one that is held.
            Contradiction: another one of this name and version is held.
        """
        signed = SignedAgreement.from_bytes(document)
        agreement = signed.agreement
        problems = signed.problems()
        me = agreement.member(self._identity.party)
        if me is None:
            problems.append(f"{self._identity.party}, whose daemon this is, is no member")
        else:
            if me.signing_key != self._signing_key:
                problems.append(f"the signing key of {me.name} is not the one that this daemon has")
            if _certificate(me.name, me.certificate) != self._identity.certificate:
                problems.append(f"the certificate of {me.name} is not the one that this daemon has")
        newest = self.newest(agreement.id)
        if agreement.version < newest:
            problems.append(f"version {agreement.version} is superseded by {newest}, which is held")
        if problems:
            raise UsageError(f"agreement {agreement.id}: {listed(problems)}")
        known = agreement.digest() in self._held
        self._state.add_agreement(agreement.digest(), agreement.id, agreement.version, document)
        return self._take(signed), not known

    def get(self, digest: str) -> Held:
        """The agreement with this digest.

        Raises:
            Unknown: it is not held.
        """
        with self._lock:
            found = self._held.get(digest)
        if found is None:
            raise Unknown(f"agreement {digest[:16]}: not held here; add it first")
        return found

    def find(self, name: str, version: int) -> Held:
        """The agreement of this name and version.

        Raises:
            Unknown: it is not held.
        """
        for held in self.all():
            if (held.signed.agreement.id, held.signed.agreement.version) == (name, version):
                return held
        raise Unknown(f"agreement {name} version {version}: not held here; add it first")

    def all(self) -> list[Held]:
        """All of them."""
        with self._lock:
            return list(self._held.values())

    def newest(self, name: str) -> int:
        """The highest version of that name; 0 if there is none."""
        return max(
            (h.signed.agreement.version for h in self.all() if h.signed.agreement.id == name), default=0
        )

    def is_newest(self, held: Held) -> bool:
        """Whether no later version of that agreement is held."""
        agreement = held.signed.agreement
        return agreement.version == self.newest(agreement.id)

    def certificates(self) -> tuple[Certificate, ...]:
        """Of everyone who may come in, this member first."""
        return self._certificates

    def _take(self, signed: SignedAgreement) -> Held:
        agreement = signed.agreement
        digest = agreement.digest()
        certificates = {one.name: _certificate(one.name, one.certificate) for one in agreement.members}
        peers = tuple(
            Peer(certificates[one.name], one.endpoint)
            for one in agreement.members
            if one.name != self._identity.party
        )
        held = Held(signed, digest, certificates, peers)
        with self._lock:
            self._held[digest] = held
            known = dict.fromkeys((self._identity.certificate,))
            known |= dict.fromkeys(c for h in self._held.values() for c in h.certificates.values())
            self._certificates = tuple(known)
        return held


def _certificate(name: str, pem: str) -> Certificate:
    # Whether it has expired is for each handshake to say: an old agreement must not keep a daemon down.
    source = f"the certificate of {name}"
    try:
        return parse_certificate(pem.encode(), source=source, party=name)
    except UsageError:
        from cryptography import x509

        (shown,) = x509.load_pem_x509_certificates(pem.encode())
        end = min(shown.not_valid_after_utc, datetime.now(UTC))
        return parse_certificate(pem.encode(), source=source, party=name, now=end)

"""Identities: X.509 certificates and their keys, made, read and checked.

Every member knows every other member's certificate exactly: the trust anchors of a connection are the
pinned certificates themselves and no authority. A certificate may therefore sign itself, or be signed by
a throw-away authority whose key is forgotten at once; nobody ever trusts that authority. `CA:FALSE`
in every certificate (RFC 5280, 4.2.1.9) keeps a member from issuing one in another member's name.

Keys are ECDSA P-256: gRPC's TLS fails on Ed25519 certificates.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mpcpriv.errors import UsageError
from mpcpriv.types import PartyId

DAYS: Final = 825
"""How long a party's own certificate is valid, in days."""

MAX_PEM: Final = 64 << 10

_URI: Final = "spiffe://mpcpriv/"
# .internal is set aside for private use, so the name that TLS checks is never anyone's host.
_DOMAIN: Final = ".mpcpriv.internal"
_SKEW: Final = timedelta(seconds=60)
_MALFORMED: Final = (
    ValueError,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
)
"""What cryptography raises for bytes of another's making."""


def dns_name(party: PartyId) -> str:
    """The DNS name in the certificate of `party`, which gRPC checks; no resolver knows it."""
    return f"{party}{_DOMAIN}"


@dataclass(frozen=True)
class Certificate:
    """A member's certificate, checked: ECDSA P-256, CA:FALSE, the party's name in it, within its validity.

    Attributes:
        party: the name that it carries.
        der: the certificate itself; two are the same member if and only if these bytes are equal.
        not_before: start of validity.
        not_after: end of validity.
    """

    party: PartyId
    der: bytes = field(repr=False)
    not_before: datetime = field(repr=False, compare=False)
    not_after: datetime = field(repr=False, compare=False)

    @property
    def pem(self) -> bytes:
        """The certificate as PEM."""
        return x509.load_der_x509_certificate(self.der).public_bytes(serialization.Encoding.PEM)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, 64 hexadecimal digits: to compare over the telephone."""
        return x509.load_der_x509_certificate(self.der).fingerprint(hashes.SHA256()).hex()


@dataclass(frozen=True)
class Identity:
    """A member's certificate with its private key, which never shows in a repr.

    Attributes:
        certificate: the certificate.
        key: the private key, PEM.
    """

    certificate: Certificate
    key: bytes = field(repr=False, compare=False)

    @property
    def party(self) -> PartyId:
        """The member's name."""
        return self.certificate.party


def self_signed(party: str, *, days: int = DAYS, now: datetime | None = None) -> Identity:
    """A new identity for `party` that vouches for itself, valid from a minute ago for `days` days.

    Raises:
        UsageError: `party` is no party name.
    """
    return _issue(PartyId(party), None, timedelta(days=days), now)


def throw_away(parties: Sequence[str], *, days: int = 2, now: datetime | None = None) -> tuple[Identity, ...]:
    """New identities for `parties` from an authority whose key is gone when this returns.

    Raises:
        UsageError: one of `parties` is no party name, or one stands there twice.
    """
    names = [PartyId(party) for party in parties]
    if len(set(names)) != len(names):
        raise UsageError(f"members {', '.join(names)}: each name may stand there once")
    authority = ec.generate_private_key(ec.SECP256R1())
    return tuple(_issue(name, authority, timedelta(days=days), now) for name in names)


def parse_certificate(
    pem: bytes, *, source: str, party: str | None = None, now: datetime | None = None
) -> Certificate:
    """Reads and checks one certificate.

    Args:
        pem: one certificate in PEM.
        source: what to call it in errors, for instance its path.
        party: the name that it must carry; None takes the one it carries.
        now: the time to check validity at; None is the present.

    Raises:
        UsageError: it is no certificate, or not of the kind that every member's is; the message says why.
    """
    try:
        (certificate,) = x509.load_pem_x509_certificates(pem)
    except _MALFORMED:
        raise UsageError(f"{source}: one certificate in PEM is needed") from None
    try:
        key = certificate.public_key()
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except (x509.ExtensionNotFound, *_MALFORMED) as error:
        raise UsageError(f"{source}: not a certificate that mpcpriv makes ({error})") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise UsageError(f"{source}: the key must be ECDSA P-256, the kind that gRPC's TLS and mpcpriv share")
    if constraints.ca or usage.key_cert_sign:
        raise UsageError(f"{source}: it may sign other certificates; a member's certificate says CA:FALSE")
    if not usage.digital_signature:
        raise UsageError(f"{source}: its key usage lacks digitalSignature")
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1 or not uris[0].startswith(_URI):
        shown = ", ".join(uris) or "none"
        raise UsageError(f"{source}: it must carry one URI, {_URI}NAME; it carries {shown}")
    name = PartyId(uris[0].removeprefix(_URI))
    if names.get_values_for_type(x509.DNSName) != [dns_name(name)]:
        raise UsageError(f"{source}: it must carry the DNS name {dns_name(name)} and no other")
    if party is not None and name != party:
        raise UsageError(f"{source}: the certificate of {name}, where that of {party} is needed")
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    moment = now or datetime.now(UTC)
    if moment < start:
        raise UsageError(f"{source}: not valid before {start:%Y-%m-%d %H:%M} UTC; is the clock right?")
    if moment > end:
        raise UsageError(f"{source}: expired on {end:%Y-%m-%d %H:%M} UTC; make a new identity")
    return Certificate(name, certificate.public_bytes(serialization.Encoding.DER), start, end)


def load_certificate(
    path: str | Path, *, party: str | None = None, now: datetime | None = None
) -> Certificate:
    """Reads a member's certificate from a PEM file; see `parse_certificate`.

    Raises:
        UsageError: the file cannot be read or does not hold a member's certificate.
    """
    return parse_certificate(_read(Path(path)), source=str(path), party=party, now=now)


def load_identity(
    certificate: str | Path, key: str | Path, *, party: str | None = None, now: datetime | None = None
) -> Identity:
    """Reads a certificate and its private key from two PEM files.

    Raises:
        UsageError: a file cannot be read, the key is readable by others than its owner, encrypted or
            of another kind, or it does not belong to the certificate.
    """
    checked = load_certificate(certificate, party=party, now=now)
    path = Path(key)
    raw = _read(path)
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise UsageError(f"{path}: others than its owner may use this key; run chmod 600 {path}")
    try:
        private = serialization.load_pem_private_key(raw, password=None)
    except (ValueError, TypeError):
        raise UsageError(f"{path}: an unencrypted private key in PEM is needed") from None
    public = x509.load_der_x509_certificate(checked.der).public_key()
    if not isinstance(private, ec.EllipticCurvePrivateKey) or private.public_key() != public:
        raise UsageError(f"{path}: not the key of the certificate {certificate}")
    return Identity(checked, _key_pem(private))


def save_identity(identity: Identity, certificate: str | Path, key: str | Path) -> None:
    """Writes an identity to two new files, the key readable by its owner alone.

    Raises:
        UsageError: one of the files exists already, or its folder does not.
    """
    files = ((Path(key), identity.key, 0o600), (Path(certificate), identity.certificate.pem, 0o644))
    for path, content, mode in files:
        try:
            # O_EXCL, and the mode at creation: the key is at no moment open to others.
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except OSError as error:
            raise UsageError(f"{path}: cannot be written ({error.strerror})") from None
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)


def _issue(
    party: PartyId, authority: ec.EllipticCurvePrivateKey | None, validity: timedelta, now: datetime | None
) -> Identity:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, party)])
    issuer = subject
    if authority is not None:
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mpcpriv throw-away")])
    start = (now or datetime.now(UTC)) - _SKEW
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    # Each member is a server to some members and a client to the others.
    purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    names = x509.SubjectAlternativeName(
        [x509.UniformResourceIdentifier(party.uri), x509.DNSName(dns_name(party))]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + validity)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(purposes, critical=False)
        .add_extension(names, critical=False)
        .sign(authority or key, hashes.SHA256())
    )
    checked = Certificate(
        party,
        certificate.public_bytes(serialization.Encoding.DER),
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
    )
    return Identity(checked, _key_pem(key))


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_PEM)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None

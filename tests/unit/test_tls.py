"""Identities: what is made is accepted, and everything else is refused with its reason."""

from __future__ import annotations

import base64
import dataclasses
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID

from mpcpriv.errors import UsageError
from mpcpriv.transport.tls import (
    Identity,
    dns_name,
    load_certificate,
    load_identity,
    parse_certificate,
    save_identity,
    self_signed,
    throw_away,
)
from mpcpriv.types import PartyId

ALICE = PartyId("alice")


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    save_identity(self_signed("alice"), tmp_path / "a.crt", tmp_path / "a.key")
    return tmp_path / "a.crt", tmp_path / "a.key"


def _certificate(
    *,
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | None = None,
    ca: bool = False,
    sign: bool = False,
    digital: bool = True,
    uris: tuple[str, ...] = ("spiffe://mpcpriv/alice",),
    dns: tuple[str, ...] = (dns_name(ALICE),),
    extensions: bool = True,
) -> bytes:
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "alice")])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(days=1))
    )
    if extensions:
        usage = x509.KeyUsage(digital, False, False, False, False, sign, False, False, False)
        names = [*map(x509.UniformResourceIdentifier, uris), *map(x509.DNSName, dns)]
        builder = (
            builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
        )
    made = builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize("make", [lambda: self_signed("alice"), lambda: throw_away(("bob", "alice"))[1]])
def test_an_identity_survives_its_files(make: Callable[[], Identity], tmp_path: Path) -> None:
    identity = make()
    save_identity(identity, tmp_path / "a.crt", tmp_path / "a.key")
    loaded = load_identity(tmp_path / "a.crt", tmp_path / "a.key", party="alice")
    assert loaded == identity
    assert loaded.key == identity.key
    assert loaded.party == "alice"
    assert load_certificate(tmp_path / "a.crt") == identity.certificate
    assert stat.S_IMODE((tmp_path / "a.key").stat().st_mode) == 0o600
    der = x509.load_pem_x509_certificate((tmp_path / "a.crt").read_bytes())
    assert identity.certificate.fingerprint == der.fingerprint(hashes.SHA256()).hex()


def test_a_key_never_shows() -> None:
    identity = self_signed("alice")
    assert "PRIVATE" not in repr(identity)
    assert "alice" in repr(identity)
    with pytest.raises(dataclasses.FrozenInstanceError):
        identity.key = b""  # type: ignore[misc]


def test_existing_files_are_not_overwritten(files: tuple[Path, Path]) -> None:
    before = files[1].read_bytes()
    with pytest.raises(UsageError, match="exists"):
        save_identity(self_signed("alice"), *files)
    assert files[1].read_bytes() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o777])
def test_a_key_open_to_others_is_refused(files: tuple[Path, Path], mode: int) -> None:
    files[1].chmod(mode)
    with pytest.raises(UsageError, match="chmod 600"):
        load_identity(*files)


def test_missing_files_are_named(files: tuple[Path, Path], tmp_path: Path) -> None:
    for pair in ((tmp_path / "none", files[1]), (files[0], tmp_path / "none")):
        with pytest.raises(UsageError, match="none: cannot be read"):
            load_identity(*pair)


def test_anothers_key_is_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    save_identity(self_signed("alice"), tmp_path / "b.crt", tmp_path / "b.key")
    with pytest.raises(UsageError, match="not the key of the certificate"):
        load_identity(files[0], tmp_path / "b.key")


def test_a_file_without_a_key_is_refused(files: tuple[Path, Path]) -> None:
    files[1].write_bytes(files[0].read_bytes())
    with pytest.raises(UsageError, match="private key in PEM"):
        load_identity(*files)


def test_anothers_certificate_is_refused(files: tuple[Path, Path]) -> None:
    with pytest.raises(UsageError, match="the certificate of alice, where that of bob is needed"):
        load_certificate(files[0], party="bob")


def _of_no_curve() -> bytes:
    """A certificate whose key names a curve that nobody knows."""
    der = self_signed("alice").certificate.der
    p256 = bytes.fromhex("06082a8648ce3d030107")
    assert p256 in der
    raw = base64.encodebytes(der.replace(p256, p256[:-2] + b"\x7f\x07"))
    return b"-----BEGIN CERTIFICATE-----\n" + raw + b"-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(("days", "words"), [(-3, "not valid before"), (3, "expired on")])
def test_validity_is_checked(days: int, words: str) -> None:
    (identity,) = throw_away(("alice",))
    now = datetime.now(UTC) + timedelta(days=days)
    with pytest.raises(UsageError, match=words):
        parse_certificate(identity.certificate.pem, source="it", now=now)


@pytest.mark.parametrize(
    ("pem", "words"),
    [
        (b"", "one certificate in PEM"),
        (self_signed("alice").certificate.pem * 2, "one certificate in PEM"),
        (_certificate(key=ed25519.Ed25519PrivateKey.generate()), "ECDSA P-256"),
        (_certificate(key=ec.generate_private_key(ec.SECP384R1())), "ECDSA P-256"),
        (_of_no_curve(), "not a certificate that mpcpriv makes"),
        (_certificate(ca=True), "CA:FALSE"),
        (_certificate(sign=True), "CA:FALSE"),
        (_certificate(digital=False), "digitalSignature"),
        (_certificate(uris=()), "carries none"),
        (_certificate(uris=("spiffe://elsewhere/alice",)), "spiffe://mpcpriv/NAME"),
        (_certificate(uris=("spiffe://mpcpriv/alice", "spiffe://mpcpriv/bob")), "one URI"),
        (_certificate(uris=("spiffe://mpcpriv/Alice",)), "party name"),
        (_certificate(dns=("bob.mpcpriv.internal",)), "alice.mpcpriv.internal"),
        (_certificate(dns=()), "alice.mpcpriv.internal"),
        (_certificate(extensions=False), "not a certificate that mpcpriv makes"),
    ],
)
def test_other_certificates_are_refused(pem: bytes, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_certificate(pem, source="it")


def test_the_plain_one_is_accepted() -> None:
    assert parse_certificate(_certificate(), source="it").party == "alice"


@pytest.mark.parametrize("names", [("alice", "alice"), ("Alice",), ("",)])
def test_bad_names_get_no_identity(names: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        throw_away(names)

"""`cluster.toml`: what is accepted, what is refused and in which words, and what its digest covers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mpcpriv.errors import UsageError
from mpcpriv.party.cluster import read_cluster
from mpcpriv.transport.tls import self_signed

MEMBERS = ("alice", "bob", "dealer")


def write_certificate(path: Path, name: str) -> None:
    path.write_bytes(self_signed(name).certificate.pem)


def entry(name: str, port: int | str, certificate: str | None = None) -> str:
    return f'name = "{name}"\naddress = "127.0.0.1:{port}"\ncertificate = "{certificate or name + ".crt"}"\n'


def text(*parties: str, dealer: str | None = None, rest: str = "") -> str:
    blocks = [f"[[party]]\n{party}" for party in parties]
    return "\n".join([*blocks, f"[dealer]\n{dealer or entry('dealer', 9300)}", rest])


ALICE, BOB = entry("alice", 9301), entry("bob", 9302)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in MEMBERS:
        write_certificate(tmp_path / f"{name}.crt", name)
    return tmp_path


def write(folder: Path, content: str) -> Path:
    path = folder / "cluster.toml"
    path.write_text(content)
    return path


def test_members_stand_in_the_order_of_the_file_with_the_dealer_last(folder: Path) -> None:
    cluster = read_cluster(write(folder, text(BOB, ALICE)))
    assert cluster.names == ("bob", "alice", "dealer")
    assert cluster.addresses == ("127.0.0.1:9302", "127.0.0.1:9301", "127.0.0.1:9300")
    assert [cluster.rank(name) for name in cluster.names] == [0, 1, 2]
    assert cluster.members[0].certificate.pem == (folder / "bob.crt").read_bytes()
    assert cluster.members[0].folder == folder


def test_limits_have_defaults_and_can_be_set(folder: Path) -> None:
    plain = read_cluster(write(folder, text(ALICE, BOB))).limits
    assert (plain.connect, plain.wait) == (60, 600)
    tuned = read_cluster(
        write(folder, text(ALICE, BOB, rest="[limits]\nconnect = 5\nwait = 7.5\nmessage = 1048576"))
    ).limits
    assert (tuned.connect, tuned.wait, tuned.message) == (5.0, 7.5, 1 << 20)


def test_digest_covers_order_and_certificates_and_nothing_else(folder: Path) -> None:
    def digest(content: str) -> bytes:
        return read_cluster(write(folder, content)).digest

    base = digest(text(ALICE, BOB))
    assert len(base) == 32
    assert digest(text(entry("alice", 1234), BOB, rest="[limits]\nwait = 5")) == base
    assert digest(text(BOB, ALICE)) != base
    write_certificate(folder / "alice.crt", "alice")
    assert digest(text(ALICE, BOB)) != base


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[[party]", "not TOML"),
        ("x = " + "[" * 5000, "nested too deeply"),
        ("x = " + "9" * 5000, "not TOML"),
        (text(ALICE, entry("bob", "9" * 5000)), "write host:port with a port from 1 to 65535"),
        (text(ALICE, BOB.replace("bob.crt", "bob\\u0000")), "party[1].certificate"),
        (text(ALICE), "1 [[party]]: a computation needs at least 2 parties; add"),
        (text(ALICE, BOB).replace("[dealer]", "[helper]"), "dealer: missing; write it"),
        (text(ALICE, BOB.replace("address", "adress")), "party[1].address: missing"),
        (text(ALICE + "rank = 0\n", BOB), "party[0].rank: no such field; check its spelling"),
        (
            text(ALICE, BOB.replace('"127.0.0.1:9302"', "9302")),
            "party[1].address: 9302: input should be a valid",
        ),
        (text(ALICE, entry("Bob", 9302)), "party[1].name: party name 'Bob': use a lower-case letter"),
        (
            text(ALICE, entry("alice", 9302, "bob.crt")),
            "bob.crt: the certificate of bob, where that of alice is needed",
        ),
        (
            text(ALICE, entry("alice", 9302)),
            "party[1].name 'alice': party[0] has the same; each member needs",
        ),
        (text(ALICE, entry("bob", 9301)), "party[1].address '127.0.0.1:9301': party[0] has the same"),
        (
            text(ALICE, BOB, dealer=entry("dealer", 9302)),
            "dealer.address '127.0.0.1:9302': party[1] has the same",
        ),
        (
            text(ALICE, entry("bob", 9302, "absent.crt")),
            "'absent.crt': there is no such file; get it from bob",
        ),
        (text(ALICE, entry("bob", 0)), "party[1].address '127.0.0.1:0': write host:port"),
        (text(ALICE, entry("bob", 65536)), "'127.0.0.1:65536': write host:port"),
        (text(ALICE, BOB.replace("127.0.0.1:9302", "bob")), "party[1].address 'bob': write host:port"),
        (text(ALICE, BOB.replace("127.0.0.1", "::1")), "'::1:9302': write host:port"),
        (text(ALICE, BOB.replace("127.0.0.1", "https://b")), "'https://b:9302': write host:port"),
        (text(ALICE, BOB, rest="[limits]\nconnect = 0"), "limits.connect: 0: input should be greater than 0"),
        (text(ALICE, BOB, rest="[limits]\nwait = inf"), "limits.wait: inf: input should be a finite number"),
        (
            text(ALICE, BOB, rest="[limits]\nmessage = 1.5"),
            "limits.message: 1.5: input should be a valid integer",
        ),
    ],
)
def test_mistakes_are_named(folder: Path, content: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        read_cluster(write(folder, content))
    assert "cluster.toml" in str(caught.value)
    assert "\n" not in str(caught.value) or "TOML" in str(caught.value)


def test_ipv6_addresses_are_written_in_brackets(folder: Path) -> None:
    cluster = read_cluster(write(folder, text(ALICE, BOB.replace("127.0.0.1", "[::1]"))))
    assert cluster.addresses[1] == "[::1]:9302"


def test_a_file_that_is_no_certificate_is_refused(folder: Path) -> None:
    (folder / "bob.crt").write_text("hello")
    with pytest.raises(UsageError, match=r"party\[1\]\.certificate: .*bob\.crt: one certificate in PEM"):
        read_cluster(write(folder, text(ALICE, BOB)))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such file; name the cluster file with --cluster"):
        read_cluster(tmp_path / "cluster.toml")


def test_an_unknown_party_is_refused_by_name(folder: Path) -> None:
    cluster = read_cluster(write(folder, text(ALICE, BOB)))
    with pytest.raises(UsageError, match=r"--party 'carol': .* knows alice, bob, dealer"):
        cluster.rank("carol")

"""What a log takes, what receipts prove, and what the command says of it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from typer.testing import CliRunner

from mpcpriv.audit.entry import NOTHING, seal
from mpcpriv.audit.events import EVENTS, Event, Facts, Opened, ReceiptGiven, ReceiptReceived, facts_of
from mpcpriv.audit.log import AuditLog
from mpcpriv.audit.receipt import make_receipt, now
from mpcpriv.audit.verify import countersigned, read, verify
from mpcpriv.cli import commands
from mpcpriv.documents import public_key
from mpcpriv.errors import PeerRefused, UsageError
from tests.unit.audit_logs import KEYS, PUBLIC, job, path_of, three_logs

KEY = KEYS["alice"]
JOB = "1" * 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where alice's log of two jobs is, beside those of bob and carol."""
    with three_logs(tmp_path) as logs:
        job(logs, 1)
        job(logs, 2)
    return path_of(tmp_path, "alice")


def peers_of(path: Path) -> list[Path]:
    return [path_of(path.parent, "bob"), path_of(path.parent, "carol")]


def problems(path: Path) -> list[str]:
    return verify(path, PUBLIC["alice"], PUBLIC, peers_of(path), owner="alice")


def test_three_logs_are_whole_by_themselves_and_against_each_other(path: Path) -> None:
    for owner in KEYS:
        others = [path_of(path.parent, name) for name in KEYS if name != owner]
        assert verify(path_of(path.parent, owner), PUBLIC[owner], PUBLIC, others, owner=owner) == []
    entries = read(path).entries
    assert [entry.seq for entry in entries] == list(range(len(entries)))
    assert all(after.previous == before.digest for before, after in itertools.pairwise(entries))
    assert countersigned(path, PUBLIC, peers_of(path)) == {"bob": 14, "carol": 14}


def test_a_log_goes_on_where_it_stood(path: Path) -> None:
    before = read(path).entries
    with AuditLog(path, KEY, "alice") as log:
        assert log.head() == before[-1]
        log.append(
            "agreement-added", agreement="x", version=2, agreement_digest=JOB, members=["alice", "bob"]
        )
        assert log.head().previous == before[-1].digest
    assert problems(path) == []


@pytest.mark.parametrize(
    ("event", "facts", "reason"),
    [
        ("deleted", {}, "there is no such event; use opened"),
        ("cancelled", {"job": JOB}, "by: Field required"),
        ("cancelled", {"job": JOB, "by": "alice", "age": 42}, "age: Extra inputs"),
        ("cancelled", {"job": "job-1", "by": "alice"}, "job: String should match"),
        ("cancelled", {"job": JOB, "by": "Alice 42"}, "by: a name or time that is none"),
        ("outcome", {"job": JOB, "by": "alice", "outcome": "failure"}, "a failure has a reason"),
        ("outcome", {"job": JOB, "by": "alice", "outcome": "success", "reason": "42"}, "a success has none"),
        ("decided", {"job": JOB, "by": "alice", "decision": "refuse"}, "a refusal has a reason"),
        ("decided", {"job": JOB, "by": "alice", "decision": "refuse", "reasons": ["a\nb42"]}, "reasons.0"),
        ("fetched", {"job": JOB, "by": "alice", "output_digest": 42.5}, "output_digest"),
        ("agreement-added", {"agreement": "x", "version": -42}, "version"),
        ("cancelled", {"job": JOB, "by": object()}, "no JSON"),
        ("outcome", {"job": JOB, "by": "alice", "outcome": "failure", "reason": "\ud800"}, "outcome: "),
        (
            "decided",
            {"job": JOB, "by": "alice", "decision": "refuse", "reasons": ["x" * 2000] * 530},
            "an entry has 1048576 at most",
        ),
        (
            "opened",
            {"owner": "alice", "signing_key": "A" * 43 + "=", "nonce": "0" * 32},
            "only the log itself",
        ),
        ("recovered", {"moved_to": "x", "length": 1, "digest": JOB}, "only the log itself"),
    ],
)
def test_only_events_with_their_facts_are_taken(
    path: Path, event: str, facts: dict[str, object], reason: str
) -> None:
    content = path.read_bytes()
    with AuditLog(path, KEY, "alice") as log, pytest.raises(UsageError) as refused:
        log.append(event, **facts)
    assert reason in str(refused.value)
    assert "42" not in str(refused.value), "a value that does not belong there is not repeated"
    assert path.read_bytes() == content


def test_no_event_has_room_for_numbers_of_a_data_set() -> None:
    for event, facts in EVENTS.items():
        schema = json.dumps(facts.model_json_schema())
        assert '"type": "number"' not in schema, event
        assert '"additionalProperties": false' in schema, event
        assert '"additionalProperties": {' not in schema, event


def test_a_head_is_countersigned_once(path: Path) -> None:
    with AuditLog(path, KEY, "alice") as log:
        first = log.give_receipt("bob", 90, JOB)
        entry = log.head()
        assert entry.event == "receipt-given"
        assert first.is_signed_by(PUBLIC["alice"])
        assert log.give_receipt("bob", 90, JOB) == first
        assert log.head() == entry
        with pytest.raises(PeerRefused, match="bob shows another entry 90 of its audit log than it did at"):
            log.give_receipt("bob", 90, "2" * 64)
        for wrong in (("Bob", 1, JOB), ("bob", -1, JOB), ("bob", 1, "no digest"), ("bob", 2**60, JOB)):
            with pytest.raises(UsageError, match="a receipt is of"):
                log.give_receipt(*wrong)
        assert log.head() == entry
    with AuditLog(path, KEY, "alice") as log:
        assert log.give_receipt("bob", 90, JOB) == first, "also after a restart"


def test_a_receipt_is_kept_once_and_only_a_right_one(path: Path) -> None:
    with AuditLog(path, KEY, "alice") as log:
        head = log.head()
        right = make_receipt(KEYS["bob"], "bob", "alice", head.seq, head.digest)
        wrong = {
            "did not sign": make_receipt(KEYS["carol"], "bob", "alice", head.seq, head.digest),
            "carol's log": make_receipt(KEYS["bob"], "bob", "carol", head.seq, head.digest),
            "is another one": make_receipt(KEYS["bob"], "bob", "alice", head.seq, JOB),
            "this log is another": make_receipt(KEYS["bob"], "bob", "alice", head.seq + 1, JOB),
        }
        for reason, receipt in wrong.items():
            with pytest.raises(PeerRefused, match=reason):
                log.keep_receipt(receipt, PUBLIC["bob"])
        with pytest.raises(UsageError):
            log.append("receipt-received", receipt=wrong["is another one"])
        with pytest.raises(UsageError):
            log.append("receipt-given", receipt=right)
        assert log.head() == head
        log.keep_receipt(right, PUBLIC["bob"])
        log.keep_receipt(right, PUBLIC["bob"])
        assert log.head().seq == head.seq + 1
    with AuditLog(path, KEY, "alice") as log:
        log.keep_receipt(right, PUBLIC["bob"])
        assert log.head().seq == head.seq + 1
    assert problems(path) == []


@pytest.mark.parametrize("field", ["owner", "seq", "digest", "by", "time", "signature"])
def test_each_field_of_a_receipt_is_signed(field: str) -> None:
    receipt = make_receipt(KEYS["bob"], "bob", "alice", 7, JOB)
    other = make_receipt(KEYS["carol"], "carol", "dave", 8, "2" * 64)
    later = receipt.time.replace(year=2099)
    changed = later if field == "time" else getattr(other, field)
    assert receipt.is_signed_by(PUBLIC["bob"])
    assert not receipt.model_copy(update={field: changed}).is_signed_by(PUBLIC["bob"])


def test_another_history_shows_by_a_single_receipt(path: Path) -> None:
    # Alice, who has her key, writes her log anew from the same first entry.
    lines = path.read_bytes().splitlines(keepends=True)
    receipt = next(
        entry.facts.receipt
        for entry in reversed(read(peers_of(path)[0]).entries)
        if entry.event == "receipt-given" and entry.facts.receipt.owner == "alice"
    )
    path.write_bytes(lines[0])
    with AuditLog(path, KEY, "alice") as log:
        while log.head().seq < 20:
            log.append("cancelled", job=JOB, by="alice")
    assert verify(path, PUBLIC["alice"]) == []
    for other in (receipt, peers_of(path)[0]):
        found = verify(path, PUBLIC["alice"], PUBLIC, [other])
        assert any("bob countersigned entry 14" in line and "rewritten" in line for line in found)


def test_a_new_log_under_another_name_hides_nothing(path: Path) -> None:
    path.unlink()
    with AuditLog(path, KEY, "mallory") as log:
        while log.head().seq < 20:
            log.append("cancelled", job=JOB, by="mallory")
    assert "entry 0: the log is mallory's, not alice's" in problems(path)
    assert any("another one stands there" in line for line in problems(path))


def test_a_receipt_that_was_given_is_missing_in_a_backup(path: Path) -> None:
    # Cut behind the entry that bob countersigned last: what alice gave bob afterwards is gone.
    lines = path.read_bytes().splitlines(keepends=True)
    given = max(entry.seq for entry in read(path).entries if entry.event == "receipt-given")
    path.write_bytes(b"".join(lines[:given]))
    found = problems(path)
    assert len(found) == 1
    assert "holds a receipt that alice signed at" in found[0]
    assert "this log was cut, or a backup was restored" in found[0]


def test_receipts_that_prove_nothing_are_reported(path: Path) -> None:
    head = read(path).entries[-1]
    forged = make_receipt(KEYS["carol"], "bob", "alice", head.seq + 50, JOB)
    assert verify(path, PUBLIC["alice"], PUBLIC, [forged]) == ["a receipt: not signed by bob"]
    unknown = make_receipt(KEYS["carol"], "dave", "alice", head.seq + 50, JOB)
    assert verify(path, PUBLIC["alice"], PUBLIC, [unknown]) == [
        "a receipt: by dave, whose signing key is not given"
    ]
    nameless = verify(path, PUBLIC["alice"], {}, peers_of(path))
    assert f"{peers_of(path)[0]}, the log of bob, whose signing key is not given" in nameless
    bob = peers_of(path)[0]
    bob.write_bytes(bob.read_bytes().replace(b'"decision":"accept"', b'"decision":"refuse"', 1))
    assert any(line.startswith(f"{bob}, the log of bob: line ") for line in problems(path))
    with pytest.raises(UsageError, match="cannot be read"):
        verify(path.with_name("nothing"), PUBLIC["alice"])


def test_what_an_owner_could_seal_and_never_wrote_is_reported(path: Path) -> None:
    def reported(seq: int, event: Event, facts: Facts, previous: str) -> list[str]:
        entry = seal(KEY, seq, now(), event, facts, previous)
        path.write_bytes(b"".join(lines[:seq]) + entry.line())
        return verify(path, PUBLIC["alice"], PUBLIC)

    lines = path.read_bytes().splitlines(keepends=True)
    head = read(path).entries[-1]
    opened = read(path).entries[0].facts
    assert isinstance(opened, Opened)
    cancelled = facts_of("cancelled", {"job": JOB, "by": "alice"})
    assert reported(0, "opened", opened, NOTHING) == []
    assert reported(0, "opened", opened, "f" * 64) == [
        "entry 0 names an entry before it, and none stands there"
    ]
    foreign = opened.model_copy(update={"signing_key": PUBLIC["bob"]})
    assert reported(0, "opened", foreign, NOTHING) == ["entry 0: the log is of another signing key"]
    begins = "a log begins with `opened`, and nothing else is called so"
    assert reported(0, "cancelled", cancelled, NOTHING) == [f"entry 0: {begins}"]

    seq = len(lines)
    assert reported(seq, "opened", opened, head.digest) == [f"entry {seq}: {begins}"]
    for key, by, owner, of, digest, reason in (
        (KEYS["bob"], "bob", "alice", seq - 1, head.digest, None),
        (
            KEYS["carol"],
            "bob",
            "alice",
            seq - 1,
            head.digest,
            f"entry {seq}: a receipt that bob did not sign",
        ),
        (
            KEYS["bob"],
            "bob",
            "carol",
            seq - 1,
            JOB,
            f"entry {seq}: a receipt of another log, or of a later entry",
        ),
        (
            KEYS["bob"],
            "bob",
            "alice",
            seq,
            JOB,
            f"entry {seq}: a receipt of another log, or of a later entry",
        ),
        (
            *(KEYS["bob"], "bob", "alice", seq - 1, JOB),
            f"entry {seq - 1} is not the one that bob countersigned (entry {seq})",
        ),
    ):
        received = ReceiptReceived(receipt=make_receipt(key, by, owner, of, digest))
        assert reported(seq, "receipt-received", received, head.digest) == ([reason] if reason else [])
    for key, by in ((KEYS["bob"], "alice"), (KEYS["bob"], "bob"), (KEY, "bob")):
        given = ReceiptGiven(receipt=make_receipt(key, by, "carol", 3, JOB))
        assert reported(seq, "receipt-given", given, head.digest) == [
            f"entry {seq}: a receipt given that its owner did not sign"
        ]


def invoke(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(commands, ["audit", *map(str, arguments)], env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def test_show(path: Path) -> None:
    status, table = invoke("show", path)
    assert status == 0
    assert "outcome success" in table
    status, lines = invoke("show", path, "--json")
    assert lines.encode() == path.read_bytes()
    status, lines = invoke("show", path, "--json", "--job", f"{2:064x}")
    assert [json.loads(line)["event"] for line in lines.splitlines()] == [
        "proposed",
        "decided",
        "started",
        "released",
        "outcome",
    ]
    party = path.with_name("party.toml")
    party.write_text('name = "alice"\n[daemon]\naudit = "alice.jsonl"\n')
    assert invoke("show", "--config", party) == (0, table)
    with pytest.raises(UsageError, match="which log"):
        invoke("show")


def test_verify(path: Path, tmp_path: Path) -> None:
    pem = tmp_path / "signing.key"
    pem.write_bytes(
        KEY.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    agreement = tmp_path / "x.agreement.json"
    members = [{"name": name, "signing_key": key} for name, key in PUBLIC.items()]
    agreement.write_text(json.dumps({"agreement": {"members": members}, "signatures": {}}))
    bob, carol = peers_of(path)
    party = tmp_path / "party.toml"
    party.write_text('name = "alice"\nsigning_key = "signing.key"\n[daemon]\naudit = "alice.jsonl"\n')
    last = len(read(path).entries) - 1
    named = [part for name in ("bob", "carol") for part in ("--peer-key", f"{name}={PUBLIC[name]}")]
    for arguments in (
        [path, "--key", PUBLIC["alice"], *named],
        [path, "--key", pem, *named],
        [path, "--owner", "alice", "--agreement", agreement],
        ["--config", party, "--agreement", agreement],
    ):
        status, report = invoke("verify", *arguments, "--peer", bob, "--peer", carol)
        assert status == 0
        assert report.splitlines() == [
            f"{path}: entries 0 to {last} are as they were written",
            f"{path}: bob has countersigned up to entry 14",
            f"{path}: carol has countersigned up to entry 14",
            f"{path}: for entries 15 to {last} there is the owner's word only",
        ]
    status, report = invoke("verify", path, "--key", pem)
    assert status == 0
    assert "nobody can say whether entries are missing at the end" in report

    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3] + lines[4:10]))
    status, report = invoke("verify", "--config", party, "--agreement", agreement, "--peer", bob)
    assert status == 1
    assert f"{path}: entry 3 is missing before entry 4, line 4" in report
    assert "bob countersigned entry 14" in report
    for wrong in (
        [path],
        [path, "--key", "nothing"],
        [path, "--key", party],
        [path, "--key", pem, "--peer-key", "bob"],
        [path, "--key", pem, "--agreement", party],
    ):
        with pytest.raises(UsageError):
            invoke("verify", *wrong)


def test_the_public_key_of_either_half() -> None:
    assert public_key(KEY) == public_key(KEY.public_key())

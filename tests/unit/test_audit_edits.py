"""10,000 single edits of a log, and every one is found."""

from __future__ import annotations

import functools
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mpcpriv.audit import entry as entry_module
from mpcpriv.audit import verify as verify_module
from mpcpriv.audit.entry import Entry, parse, seal
from mpcpriv.audit.events import facts_of
from mpcpriv.audit.receipt import Receipt
from mpcpriv.audit.verify import verify
from tests.unit.audit_logs import KEYS, PUBLIC, job, path_of, three_logs

EDITS = 10_000
LINES = 60


class Logs:
    """Alice's log, what she wrote in another life with the same key, and her peers' logs."""

    def __init__(self, folder: Path) -> None:
        (folder / "other").mkdir()
        for place in (folder, folder / "other"):
            with three_logs(place) as logs:
                for number in range(5):
                    job(logs, number)
                while logs["alice"].head().seq < LINES - 1:
                    logs["alice"].append("fetched", job="1" * 64, by="alice", output_digest="b" * 64)
                head = logs["alice"].head()
                # The job's last word: the end is countersigned too.
                logs["bob"].give_receipt("alice", head.seq, head.digest)
        self.path = path_of(folder, "alice")
        self.peers = [path_of(folder, "bob"), path_of(folder, "carol")]
        self.lines = self.path.read_bytes().splitlines(keepends=True)
        self.entries = [parse(line[:-1]) for line in self.lines]
        self.other = path_of(folder / "other", "alice").read_bytes().splitlines(keepends=True)
        self.edited = folder / "edited.jsonl"


def rewritten(entry: Entry, previous: str, key: Ed25519PrivateKey, chance: random.Random) -> Entry:
    facts = facts_of("cancelled", {"job": f"{chance.getrandbits(256):064x}", "by": "alice"})
    return seal(key, entry.seq, entry.time, "cancelled", facts, previous)


def resealed(
    logs: Logs, first: int, key: Ed25519PrivateKey, chance: random.Random, length: int
) -> list[bytes]:
    """The log with another entry at `first`, and all that follows chained to it and signed anew."""
    lines = logs.lines[:first]
    entry = rewritten(logs.entries[first], logs.entries[first - 1].digest, key, chance)
    lines.append(entry.line())
    for old in logs.entries[first + 1 : first + length]:
        entry = seal(key, old.seq, old.time, old.event, old.facts, entry.digest)
        lines.append(entry.line())
    return lines


def flip_byte(logs: Logs, chance: random.Random) -> bytes:
    content = bytearray(b"".join(logs.lines))
    content[chance.randrange(len(content))] ^= chance.randrange(1, 256)
    return bytes(content)


def remove_byte(logs: Logs, chance: random.Random) -> bytes:
    content = b"".join(logs.lines)
    where = chance.randrange(len(content))
    return content[:where] + content[where + 1 :]


def insert_byte(logs: Logs, chance: random.Random) -> bytes:
    content = b"".join(logs.lines)
    where = chance.randrange(len(content) + 1)
    return content[:where] + bytes([chance.randrange(256)]) + content[where:]


def remove_lines(logs: Logs, chance: random.Random) -> bytes:
    first = chance.randrange(len(logs.lines))
    return b"".join(logs.lines[:first] + logs.lines[first + chance.randrange(1, 4) :])


def swap_lines(logs: Logs, chance: random.Random) -> bytes:
    one, two = chance.sample(range(len(logs.lines)), 2)
    lines = list(logs.lines)
    lines[one], lines[two] = lines[two], lines[one]
    return b"".join(lines)


def repeat_line(logs: Logs, chance: random.Random) -> bytes:
    lines = list(logs.lines)
    lines.insert(chance.randrange(len(lines) + 1), chance.choice(lines))
    return b"".join(lines)


def truncate(logs: Logs, chance: random.Random) -> bytes:
    content = b"".join(logs.lines)
    return content[: chance.randrange(len(content))]


def restore_backup(logs: Logs, chance: random.Random) -> bytes:
    return b"".join(logs.lines[: chance.randrange(1, len(logs.lines))])


def restore_backup_and_write_on(logs: Logs, chance: random.Random) -> bytes:
    first = chance.randrange(1, len(logs.lines))
    return b"".join(resealed(logs, first, KEYS["alice"], chance, chance.randrange(1, 6)))


def rewrite_the_end(logs: Logs, chance: random.Random) -> bytes:
    first = chance.randrange(len(logs.lines) - 6, len(logs.lines))
    return b"".join(resealed(logs, first, KEYS["alice"], chance, LINES))


def sign_with_the_wrong_key(logs: Logs, chance: random.Random) -> bytes:
    lines = list(logs.lines)
    place = chance.randrange(len(lines))
    old = logs.entries[place]
    lines[place] = seal(KEYS["bob"], old.seq, old.time, old.event, old.facts, old.previous).line()
    return b"".join(lines)


def replace_entry(logs: Logs, chance: random.Random) -> bytes:
    lines = list(logs.lines)
    place = chance.randrange(1, len(lines))
    lines[place] = rewritten(logs.entries[place], logs.entries[place].previous, KEYS["alice"], chance).line()
    return b"".join(lines)


def splice_line(logs: Logs, chance: random.Random) -> bytes:
    lines = list(logs.lines)
    place = chance.randrange(len(lines))
    lines[place] = logs.other[place]
    return b"".join(lines)


def splice_end(logs: Logs, chance: random.Random) -> bytes:
    place = chance.randrange(len(logs.lines))
    return b"".join(logs.lines[:place] + logs.other[place:])


EDITORS: list[Callable[[Logs, random.Random], bytes]] = [
    flip_byte,
    flip_byte,
    flip_byte,
    remove_byte,
    insert_byte,
    remove_lines,
    swap_lines,
    repeat_line,
    truncate,
    restore_backup,
    restore_backup_and_write_on,
    rewrite_the_end,
    sign_with_the_wrong_key,
    replace_entry,
    splice_line,
    splice_end,
]


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Logs:
    return Logs(tmp_path_factory.mktemp("audit"))


def found(logs: Logs, content: bytes) -> list[str]:
    logs.edited.write_bytes(content)
    return verify(logs.edited, PUBLIC["alice"], PUBLIC, logs.peers, owner="alice")


def test_the_log_as_written_is_whole(logs: Logs) -> None:
    assert len(logs.lines) == LINES
    assert found(logs, b"".join(logs.lines)) == []


@pytest.mark.parametrize("edits", [EDITS // 5, pytest.param(EDITS, marks=pytest.mark.slow)])
def test_ten_thousand_edits_are_found(logs: Logs, monkeypatch: pytest.MonkeyPatch, edits: int) -> None:
    # Pure functions, remembered: nearly all lines are the same each time.
    monkeypatch.setattr(verify_module, "_entry", functools.cache(verify_module._entry))
    monkeypatch.setattr(entry_module, "verify", functools.cache(entry_module.verify))
    monkeypatch.setattr(Receipt, "is_signed_by", functools.cache(Receipt.is_signed_by))
    seed = int.from_bytes(os.urandom(4), "big")
    chance = random.Random(seed)
    whole = b"".join(logs.lines)
    missed: list[tuple[int, str]] = []
    tried = 0
    while tried < edits:
        editor = EDITORS[tried % len(EDITORS)]
        content = editor(logs, chance)
        if content == whole:  # a byte put beside its like, or removed at the end of nothing
            continue
        tried += 1
        if not found(logs, content):
            missed.append((tried, editor.__name__))
    assert missed == [], f"seed {seed}"


@pytest.mark.parametrize("editor", dict.fromkeys(EDITORS), ids=lambda editor: editor.__name__)
def test_edits_are_found_without_the_shortcut_too(
    logs: Logs, editor: Callable[[Logs, random.Random], bytes]
) -> None:
    chance = random.Random(editor.__name__)
    for _ in range(3):
        assert found(logs, editor(logs, chance))


def test_all_but_the_owners_own_history_shows_without_peers(logs: Logs) -> None:
    chance = random.Random(5)
    for editor in (remove_byte, swap_lines, repeat_line, sign_with_the_wrong_key, replace_entry, splice_line):
        logs.edited.write_bytes(editor(logs, chance))
        problems = verify(logs.edited, PUBLIC["alice"])
        # The last entry has no follower that names it.
        assert problems or editor in (replace_entry, splice_line), editor.__name__


def edited(logs: Logs, *lines: bytes) -> list[str]:
    return found(logs, b"".join(lines))


def test_the_report_names_the_entry(logs: Logs) -> None:
    lines = logs.lines
    assert edited(logs, *lines[:7], *lines[9:])[0] == "entries 7 to 8 are missing before entry 9, line 8"
    assert "repeated or reordered" in edited(logs, *lines[:7], *lines[6:])[0]
    flipped = lines[7].replace(b'"seq":7', b'"seq":8')
    assert edited(logs, *lines[:7], flipped, *lines[8:]) == [
        "line 8, where entry 7 should be: its digest is not that of its content"
    ]
    problems = edited(logs, *lines[:30])
    assert all("the log ends with entry 29: its end was cut off, or a backup was restored" in p or
               "this log was cut, or a backup was restored" in p for p in problems)  # fmt: skip
    assert any(p.startswith(f"bob countersigned entry {LINES - 1} at ") for p in problems)
    assert edited(logs)[0].startswith("entry 0 is missing")

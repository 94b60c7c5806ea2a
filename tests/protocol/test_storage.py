"""Saved shares: read back by the same parties, refused by everybody else, encrypted, without pickle."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import mpcpriv.engine
from mpcpriv.engine.models.keys import KEY_VARIABLE, new_key
from mpcpriv.engine.session import Session
from mpcpriv.errors import Unsupported, UsageError
from tests.protocol.parties import failures, run

mpcpriv.engine.activate()

import crypten  # noqa: E402
import crypten.nn  # noqa: E402

X = torch.tensor([[1.5, -2.0], [0.25, 3.0]], dtype=torch.float64)


def model() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)).eval()
    plain[1].running_var.fill_(0.5)
    return plain, torch.randn(2, 3)


def saved(folder: Path, n: int, obj: Any = X, **options: Any) -> list[Path]:
    def program(session: Session) -> Path:
        crypten.init()
        path = folder / f"{session.rank}.shares"
        crypten.save(crypten.cryptensor(obj, src=0), path, **options or {"passphrase": "ours"})
        return path

    return run(n, program)


def loading(path: Path | str, **options: Any) -> Any:
    def body(session: Session) -> Any:
        crypten.init()
        return crypten.load(path, **options or {"passphrase": "ours"}).get_plain_text()

    return body


def refusals(paths: list[Any], **options: Any) -> list[str]:
    found = failures([loading(path, **options) for path in paths])
    return [str(error) for error in found if isinstance(error, UsageError)]


@pytest.mark.parametrize("n", [2, 3])
def test_c14_tensors_come_back(n: int, tmp_path: Path) -> None:
    def program(session: Session) -> Any:
        crypten.init()
        path, key = tmp_path / f"{session.rank}", new_key(tmp_path / f"{session.rank}.key")
        x = crypten.cryptensor(X, src=n - 1)
        crypten.save({"x": x, "parts": [x > 0, (3, "note", torch.ones(2))]}, path, key_file=key)
        back = crypten.load(path, key_file=key)
        rest = back["parts"][1]
        return (back["x"] * 2).get_plain_text(), (back["parts"][0] * 0.5).get_plain_text(), rest

    for doubled, half, rest in run(n, program):
        assert torch.allclose(doubled, X * 2)
        assert torch.equal(half, (X > 0) * 0.5)
        assert rest[:2] == (3, "note")
        assert torch.equal(rest[2], torch.ones(2))


def test_models_come_back_in_another_session(tmp_path: Path) -> None:
    plain, x = model()
    converted = crypten.nn.from_pytorch(plain, x)

    def save(session: Session) -> None:
        crypten.init()
        crypten.save(copy.deepcopy(converted).encrypt(src=1), tmp_path / str(session.rank), passphrase="ours")

    def load(session: Session) -> Any:
        crypten.init()
        back = crypten.load(tmp_path / str(session.rank), passphrase="ours")
        return back(crypten.cryptensor(x, src=0)).get_plain_text()

    run(2, save)
    for found in run(2, load):
        assert torch.allclose(found, plain(x).detach().double(), atol=1e-2)


def test_a_file_shows_no_share_and_no_value(tmp_path: Path) -> None:
    shares = torch.arange(64, dtype=torch.float64)

    def program(session: Session) -> tuple[bytes, bytes]:
        crypten.init()
        x = crypten.cryptensor(shares, src=0)
        crypten.save(x, tmp_path / str(session.rank), passphrase="ours")
        return (tmp_path / str(session.rank)).read_bytes(), x.share.numpy().tobytes()

    for data, share in run(2, program):
        assert data.startswith(b"mpcpriv shares, version 1")
        assert share[:16] not in data
        assert b"pickle" not in data
    assert (tmp_path / "0").stat().st_mode & 0o077 == 0


def test_another_partys_file_is_refused(tmp_path: Path) -> None:
    paths = saved(tmp_path, 2)
    assert any("holds the shares of bob; this is alice" in text for text in refusals([paths[1], paths[1]]))


def test_a_file_of_other_parties_is_refused(tmp_path: Path) -> None:
    paths = saved(tmp_path, 2)
    assert any(
        "saved by alice, bob; this session is of alice, bob, carol" in t for t in refusals([*paths, paths[1]])
    )


def test_files_of_different_saves_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = saved(tmp_path / "a", 2), saved(tmp_path / "b", 2)
    assert any("another save than the file of" in text for text in refusals([first[0], second[1]]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "was changed, or is locked with another key"),
        (lambda data: data[:60], "cut off"),
        (lambda data: b"PK" + data, "not a file of shares"),
        (lambda data: b"", "not a file of shares"),
        (lambda data: data.replace(b"alice", b"alicf", 1), "was changed|saved by|malformed"),
    ],
)
def test_a_changed_file_is_refused(change: Any, words: str, tmp_path: Path) -> None:
    paths = saved(tmp_path, 2)
    for path in paths:
        path.write_bytes(change(path.read_bytes()))
    found = refusals(list(paths))
    assert found
    assert any(word in text for text in found for word in words.split("|")), found


def test_the_wrong_key_or_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    paths = saved(tmp_path, 2)
    key = new_key(tmp_path / "key")
    assert any("locked with another key" in t for t in refusals(list(paths), passphrase="theirs"))
    assert any("locked with a passphrase" in t for t in refusals(list(paths), key_file=key))
    assert any("not both" in t for t in refusals_to_save(tmp_path, key_file=key, passphrase="ours"))
    assert any(KEY_VARIABLE in t for t in refusals_to_save(tmp_path, key_file=None))
    key.chmod(0o644)
    assert any("can be read by others" in t for t in refusals_to_save(tmp_path, key_file=key))
    with pytest.raises(UsageError, match="never overwritten"):
        new_key(key)


def refusals_to_save(folder: Path, **options: Any) -> list[str]:
    def program(session: Session) -> None:
        crypten.init()
        crypten.save(crypten.cryptensor(X, src=0), folder / f"again {session.rank}", **options)

    return [str(error) for error in failures([program, program]) if isinstance(error, UsageError)]


def test_a_key_may_stand_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, str(new_key(tmp_path / "key")))
    paths = saved(tmp_path, 2, key_file=None)
    assert paths[0].exists()


def test_what_would_need_code_to_load_is_refused(tmp_path: Path) -> None:
    def program(session: Session) -> None:
        crypten.init()
        with pytest.raises(Unsupported, match=r"state_dict\(\)"):
            crypten.save(crypten.nn.Linear(2, 2).encrypt(), tmp_path / "x", passphrase="ours")

    run(2, program)


def test_load_from_party_says_what_it_needs() -> None:
    plain, _ = model()
    for options, words in (
        ({"f": "x.pt"}, "weights_only=True"),
        ({}, "either f or preloaded"),
        ({"preloaded": plain}, "dummy_input= is needed"),
        ({"preloaded": "text"}, "a tensor or a model is needed"),
        ({"encrypted": True}, r"crypten.load"),
    ):

        def program(session: Session, options: dict[str, Any] = options) -> None:
            crypten.init()
            crypten.load_from_party(src=0, **options)

        assert any(words in str(error) for error in failures([program, program])), words

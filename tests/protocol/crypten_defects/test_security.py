"""S8, S9, S12, C13 and C14 of CrypTen's defects: what others get to see, and what cannot be run."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import mpcpriv
from mpcpriv.engine.models.keys import KEY_VARIABLE, new_key
from mpcpriv.errors import Unsupported, UsageError
from tests.protocol.crypten_defects.checks import close, crypten, numbers, opened, rank, row, tensors_within
from tests.protocol.parties import Sight, run

PARTIES = pytest.mark.parametrize("n", [2, 3])


@cache
def secret_model() -> tuple[nn.Module, torch.Tensor]:
    """A model whose every parameter and statistic is a number of its own, and an input."""
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)).eval()
    with torch.no_grad():
        for seed, value in enumerate(t for t in model.state_dict().values() if t.is_floating_point()):
            value.copy_(numbers(*value.shape, seed=seed).abs() + 0.25)
    return model, numbers(2, 3, seed=99).float()


secret_model()  # parties are threads: a module that one makes while another's is traced disturbs the trace


def secrets(model: nn.Module) -> list[torch.Tensor]:
    return [value.detach() for value in model.state_dict().values() if value.is_floating_point()]


def nothing_plain_in(value: Any, model: nn.Module) -> None:
    """Raises AssertionError if the object leads to a parameter or a statistic of the model."""
    for held in tensors_within(value):
        for name, secret in model.state_dict().items():
            number = held.double() if held.is_floating_point() else held.double() / 2**16
            if secret.is_floating_point() and held.shape == secret.shape:
                assert not torch.allclose(number, secret.double(), atol=1e-4), f"plain text of {name}"


def nothing_plain_was_sent(sight: Sight, model: nn.Module) -> None:
    sent = b"".join(message for messages in sight.sent.values() for message in messages)
    assert sent
    for secret in secrets(model):
        for form in (secret, secret.double(), (secret.double() * 2**16).round().long()):
            assert form.numpy().tobytes() not in sent


# S8


@row(there=r"plain text of 1\.running_mean")
def test_s8_a_party_s_model_shows_its_architecture_only() -> None:
    model, x = secret_model()
    mine: dict[str, Any] = {"preloaded": model, "dummy_input": x} if rank() == 0 else {}
    loaded = crypten.load_from_party(src=0, model_class=nn.Sequential, **mine)
    if rank() != 0:
        nothing_plain_in(loaded, model)


@PARTIES
@pytest.mark.parametrize("kind", ["model", "tensor"])
def test_s8_no_frame_holds_a_party_s_values(n: int, kind: str) -> None:
    model, x = secret_model()
    given: dict[str, Any] = (
        {"preloaded": model, "dummy_input": x} if kind == "model" else {"preloaded": secrets(model)[0]}
    )
    sight = Sight()

    def program(_: object) -> torch.Tensor:
        crypten.init()
        loaded = crypten.load_from_party(src=1, **(given if rank() == 1 else {}))
        result = loaded(crypten.cryptensor(x, src=0)) if kind == "model" else loaded * 2
        return opened(result)

    wanted = model(x) if kind == "model" else secrets(model)[0] * 2
    for found in run(n, program, sight=sight):
        close(found, wanted, 1e-2)
    nothing_plain_was_sent(sight, model)


# S9


@row(there=r"plain text of")
def test_s9_nothing_plain_survives_encryption() -> None:
    model, x = secret_model()
    converted = crypten.nn.from_pytorch(model, x)
    # To print a tensor torch takes away, from all threads, the modes that an export in one of them needs.
    crypten.comm.get().barrier()
    with pytest.raises(AssertionError, match="plain text of"):  # the search finds what is there
        nothing_plain_in(converted, model)
    converted.encrypt(src=0)
    close(opened(converted(crypten.cryptensor(x))), model(x), 1e-2)
    nothing_plain_in(converted, model)


@pytest.fixture(autouse=True)
def _key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where `crypten.save` looks for one, so that programs call it as they always did."""
    monkeypatch.setenv(KEY_VARIABLE, str(new_key(tmp_path / "key")))
    return


@row(there=r"the file holds|Error")
def test_s9_a_saved_model_holds_nothing_plain() -> None:
    model, x = secret_model()
    encrypted = crypten.nn.from_pytorch(model, x)
    encrypted.encrypt(src=0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        crypten.save(encrypted, str(path))
        data = path.read_bytes()
    for name, secret in model.state_dict().items():
        for form in (secret, secret.double(), (secret.double() * 2**16).round().long()):
            plain = secret.is_floating_point() and form.numpy().tobytes() in data
            if plain:
                raise AssertionError(f"the file holds {name}")


@PARTIES
def test_s9_no_frame_holds_a_parameter(n: int) -> None:
    model, x = secret_model()
    converted = [crypten.nn.from_pytorch(model, x) for _ in range(n)]
    sight = Sight()

    def program(_: object) -> torch.Tensor:
        crypten.init()
        mine = converted[rank()].encrypt(src=0)
        return opened(mine(crypten.cryptensor(x, src=1)))

    for found in run(n, program, sight=sight):
        close(found, model(x), 1e-2)
    nothing_plain_was_sent(sight, model)


# S12

LOSSES = ("MSELoss", "L1Loss", "BCELoss", "BCEWithLogitsLoss", "CrossEntropyLoss")


@row(there=r"DID NOT RAISE", cases=LOSSES)
def test_s12_a_loss_on_plain_labels_is_refused(case: str) -> None:
    """Each party has labels of its own: CrypTen takes the first one's, for all, without a word."""
    prediction = crypten.cryptensor(torch.full((3, 2), 0.5))
    labels = torch.tensor([[1.0, 0.0]] * 3).roll(rank(), 1)
    with pytest.raises(UsageError, match="src=RANK"):
        getattr(crypten.nn, case)()(prediction, labels)


@row(there=r"DID NOT RAISE", cases=("debug_mode", "validation_mode"))
def test_s12_nothing_decrypts_to_debug(case: str) -> None:
    try:
        with pytest.raises(Unsupported, match=r"opens"):
            setattr(crypten.cfg.debug, case, True)
    finally:
        setattr(crypten.cfg.debug, case, False)


@row(there=r"the text shows numbers", cases=("tensor", "comparison", "gradient", "parameter"))
def test_s12_no_text_shows_a_share(case: str) -> None:
    x = crypten.cryptensor(numbers(2, 2), requires_grad=True)
    x.sum().backward()
    layer = crypten.nn.Linear(2, 2)
    layer.encrypt()
    shown = {"tensor": x, "comparison": x > 0, "gradient": x.grad, "parameter": next(layer.parameters())}[
        case
    ]
    for text in (repr(shown), str(shown), f"{shown}", repr([shown])):
        if re.search(r"\d{4}", text):
            raise AssertionError("the text shows numbers")


@row(there=r"DID NOT RAISE")
def test_s12_there_is_no_generator_to_share_a_seed() -> None:
    """A party's generators on all its GPUs were seeded alike; here no secret comes from any of them."""
    with pytest.raises(Unsupported, match="generators"):
        crypten.generators["local"]


# C13


C13: dict[str, Callable[[Any], Any]] = {
    "device=": lambda x: crypten.cryptensor(torch.ones(2), device="cuda"),
    "cuda()": lambda x: x.cuda(),
    "to()": lambda x: x.to("cuda"),
    "a model": lambda x: crypten.nn.Linear(2, 2).encrypt().cuda(),
}


@row(there=None, cases=C13)
def test_c13_cuda_is_refused_by_name(case: str) -> None:
    """CrypTen's products on CUDA are exact below 512 terms only. It takes a GPU to see, which a machine that
    runs these tests need not have; here nothing is computed on one."""
    x = crypten.cryptensor(numbers(2, 2))
    with pytest.raises(Unsupported, match=r"(?i)cuda"):
        C13[case](x)


# C14


def five_megabytes() -> torch.Tensor:
    """What a party returns."""
    crypten.init()
    return opened(crypten.cryptensor(torch.arange(640_000.0)) * 2)


def fail_at_the_second() -> None:
    """A party's failure."""
    crypten.init()
    if rank() == 1:
        raise ValueError("on purpose")
    opened(crypten.cryptensor(torch.ones(2)))


@PARTIES
@pytest.mark.usefixtures("warm_workers")
def test_c14_large_results_come_back(n: int) -> None:
    """On CrypTen's own backend: test_own_backend.py."""
    results = mpcpriv.launch(five_megabytes, parties=n)
    assert len(results) == n
    for result in results:
        assert torch.equal(result, torch.arange(640_000.0, dtype=torch.float64) * 2)


@PARTIES
@pytest.mark.usefixtures("warm_workers")
def test_c14_a_failure_is_an_exception_that_names_the_party(n: int) -> None:
    with pytest.raises(mpcpriv.PartyFailed, match=r"bob.*on purpose"):
        mpcpriv.launch(fail_at_the_second, parties=n)


@row(there=None)
def test_c14_run_multiprocess_says_what_to_use() -> None:
    with pytest.raises(Unsupported, match=r"mpcpriv\.launch"):
        crypten.mpc.run_multiprocess(world_size=2)(five_megabytes)()


@row(there=r"UnpicklingError")
def test_c14_load_reads_what_save_wrote() -> None:
    x = numbers(3, 4)
    with tempfile.TemporaryDirectory() as folder:
        crypten.save(crypten.cryptensor(x), f"{folder}/x")
        close(opened(crypten.load(f"{folder}/x")), x, 0.0)

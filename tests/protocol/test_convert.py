"""Conversion of torch models: what computes the same encrypted, what is refused, and what stays secret."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import mpcpriv.engine
from mpcpriv.engine.session import Session
from mpcpriv.errors import Desynchronised, Unsupported, UsageError
from tests.protocol.models import CRYPTEN_IS_WRONG, MODELS, SLOW, Of, made, with_other_values
from tests.protocol.parties import failures, run

mpcpriv.engine.activate()

import crypten  # noqa: E402
import crypten.nn  # noqa: E402


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
        for name in MODELS
        if name not in CRYPTEN_IS_WRONG  # those are C12, in crypten_defects/
    ],
)
def test_models_convert_and_agree(name: str) -> None:
    model, plain, secret = made(name)
    converted = crypten.nn.from_pytorch(model, plain)
    with torch.no_grad():
        expected = model(plain).double()

    def program(session: Session) -> Any:
        crypten.init()
        mine = copy.deepcopy(converted) if session.rank == 1 else with_other_values(converted)
        mine.encrypt(src=1)
        return mine(crypten.cryptensor(secret, src=0)).get_plain_text()

    for found in run(2, program):
        assert found.shape == expected.shape
        assert ((found - expected).abs() / expected.abs().clamp(min=1)).max() < 1e-2


def small() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2)), torch.randn(
        2, 1, 4, 4
    )


def test_the_original_is_neither_changed_nor_kept() -> None:
    model, x = small()
    converted = crypten.nn.from_pytorch(model.train(), x)
    before = copy.deepcopy(model.state_dict())
    assert model.training
    for parameter in converted.parameters():
        with torch.no_grad():
            parameter.add_(1)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("model", "x", "words"),
    [
        (nn.Upsample(scale_factor=2, mode="bilinear"), torch.ones(1, 1, 3, 3), r"aten\.upsample_bilinear2d"),
        (nn.Conv3d(1, 1, 2), torch.ones(1, 1, 3, 3, 3), r"aten\.conv3d"),
        (Of(lambda x: x.sort()[0]), torch.ones(2, 3), r"aten\.sort"),
        (Of(lambda x: x.max(1)[1]), torch.ones(2, 3), "where a maximum stands"),
        (Of(lambda x: x if x.sum() > 0 else -x), torch.ones(2, 3), "cannot be exported"),
        (Of(lambda x: x.abs() ** x), torch.ones(2, 3), r"aten\.pow.* exponent that is a tensor"),
        (Of(lambda x: torch.rand_like(x) + x), torch.ones(2, 3), r"aten\.rand_like"),
        (Of(lambda x: x.long() * 2), torch.ones(2, 3), r"cast"),
        (Of(lambda x: x.div(2, rounding_mode="floor")), torch.ones(2, 3), "rounding_mode='floor'"),
    ],
)
def test_c12_what_is_not_offered_is_refused_by_name(model: nn.Module, x: torch.Tensor, words: str) -> None:
    with pytest.raises(Unsupported, match=words):
        crypten.nn.from_pytorch(model, x)


def test_c12_a_model_that_converts_wrongly_is_refused() -> None:
    def write_into_a_view(x: torch.Tensor) -> torch.Tensor:
        y = x.clone()
        y[:, 0].add_(1)
        return y

    with pytest.raises(Unsupported, match="away from the original"):
        crypten.nn.from_pytorch(Of(write_into_a_view), torch.ones(2, 3))


def test_any_batch_may_come_after_a_dummy_of_one() -> None:
    model, _ = small()
    converted = crypten.nn.from_pytorch(model.eval(), torch.ones(1, 1, 4, 4))
    x = torch.linspace(-1, 1, 80).reshape(5, 1, 4, 4)
    assert torch.allclose(converted(x), model(x), atol=1e-5)


def test_parties_with_other_architectures_stop() -> None:
    wide, narrow = (crypten.nn.from_pytorch(nn.Linear(3, n), torch.ones(1, 3)) for n in (2, 2))
    narrow.evaluation = crypten.nn.from_pytorch(
        Of(lambda x, a: a(x).relu(), nn.Linear(3, 2)), torch.ones(1, 3)
    ).evaluation

    def program(model: Any) -> Callable[[Session], Any]:
        def body(session: Session) -> None:
            crypten.init()
            copy.deepcopy(model).encrypt(src=0)
            (crypten.cryptensor(torch.ones(2), src=0) * 1).get_plain_text()

        return body

    found = failures([program(wide), program(narrow)])
    assert any(isinstance(error, Desynchronised) for error in found)


def test_s12_a_plain_input_to_an_encrypted_model_is_refused_unless_public() -> None:
    model, x = small()
    converted = crypten.nn.from_pytorch(model.eval(), x)

    def program(session: Session) -> Any:
        crypten.init()
        mine = copy.deepcopy(converted).encrypt(src=0)
        with pytest.raises(UsageError, match=r"plain input to an encrypted model.*crypten\.public"):
            mine(x)
        return mine(crypten.public(x.clone())).get_plain_text()

    with torch.no_grad():
        expected = model(x).double()
    for found in run(3, program):
        assert torch.allclose(found, expected, atol=1e-2)


def test_an_embedding_says_that_it_takes_one_hot_indices() -> None:
    converted = crypten.nn.from_pytorch(nn.Embedding(5, 4), torch.tensor([[1, 2]]))

    def program(session: Session) -> None:
        crypten.init()
        mine = copy.deepcopy(converted).encrypt(src=0)
        with pytest.raises(UsageError, match=r"one_hot\(index, 5\)"):
            mine(crypten.cryptensor(torch.tensor([[1, 2]]), src=0))

    run(2, program)


def test_c12_load_state_dict_takes_buffers_and_torchs_own_names() -> None:
    model, x = small()
    converted = crypten.nn.from_pytorch(model, x)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.copy_(torch.linspace(0.5, 1.5, tensor.numel()).reshape(tensor.shape))
    converted.load_state_dict(model.state_dict())
    converted.eval()
    assert torch.allclose(converted(x), model.eval()(x), atol=1e-5)
    with pytest.raises(UsageError, match=r"missing are \['3.bias'\]"):
        converted.load_state_dict({k: v for k, v in model.state_dict().items() if k != "3.bias"})
    with pytest.raises(UsageError, match="shape"):
        converted.load_state_dict({**model.state_dict(), "3.bias": torch.ones(5)})

    def program(session: Session) -> Any:
        crypten.init()
        mine = copy.deepcopy(converted).encrypt(src=0)
        with pytest.raises(UsageError, match="a plain value for an encrypted one"):
            mine.load_state_dict(model.state_dict())
        other = with_other_values(converted).encrypt(src=0)
        other.load_state_dict(mine.state_dict())
        return other(crypten.cryptensor(x, src=0)).get_plain_text()

    with torch.no_grad():
        expected = model(x).double()
    assert torch.allclose(run(2, program)[0], expected, atol=1e-2)


def test_decrypting_gives_the_parameters_back() -> None:
    model, x = small()
    converted = crypten.nn.from_pytorch(model.eval(), x)

    def program(session: Session) -> Any:
        crypten.init()
        return copy.deepcopy(converted).encrypt(src=0).decrypt()

    for back in run(2, program):
        assert torch.allclose(back(x), model(x), atol=1e-3)
        for name, tensor in back.state_dict().items():
            assert torch.allclose(tensor, model.state_dict()[name], atol=1e-4), name


@pytest.mark.slow
def test_two_transformer_encoder_layers_infer_encrypted() -> None:
    torch.manual_seed(1)
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    model = nn.Sequential(
        nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(32, 5)
    ).eval()
    x = torch.randn(2, 8, 32)
    converted = crypten.nn.from_pytorch(model, x)

    def program(session: Session) -> Any:
        crypten.init()
        found = copy.deepcopy(converted).encrypt(src=0)(crypten.cryptensor(x, src=1))
        return found.get_plain_text(), session.cost.rounds

    with torch.no_grad():
        expected = model(x).double()
    for found, _ in run(2, program):
        assert torch.allclose(found, expected, atol=2e-2)


def test_another_length_than_the_model_was_converted_for_is_refused() -> None:
    model = Of(lambda x: x + torch.arange(10.0)[: x.size(1)].mean()).eval()
    converted = crypten.nn.from_pytorch(model, torch.ones(2, 3))
    x = torch.linspace(0, 1, 15).reshape(5, 3)
    assert torch.allclose(converted(x), model(x))
    for other in (torch.ones(2, 4), torch.ones(3), torch.ones(2, 3, 1)):
        with pytest.raises(UsageError, match=r"inputs_0 has shape .* converted for \[any, 3\]"):
            converted(other)
    fixed = crypten.nn.from_pytorch(Of(lambda x: x.reshape(1, 6)).eval(), torch.ones(2, 3))
    with pytest.raises(UsageError, match=r"converted for \[2, 3\]"):
        fixed(torch.ones(4, 3))

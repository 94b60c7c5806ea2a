"""What CrypTen offers and mpcpriv refuses, each with a sentence that says why; and what never shows."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

import mpcpriv.engine
from mpcpriv.engine.correlation.product import SquarePair
from mpcpriv.engine.prg import Prg
from mpcpriv.engine.session import Session
from mpcpriv.errors import Desynchronised, Unsupported, UsageError
from tests.protocol.parties import failures, run

mpcpriv.engine.activate()

import crypten  # noqa: E402

OPTIONS = [
    ("mpc", "provider", "TFP", "first party draws"),
    ("mpc", "provider", "TTP", "32 bits"),
    ("mpc", "provider", "HE", "dealer"),
    ("mpc", "protocol", "replicated", "without a mask"),
    ("mpc", "active_security", True, "semi-honest"),
    ("debug", "debug_mode", True, "opens secrets"),
    ("debug", "validation_mode", True, "opens the operands"),
    ("encoder", "precision_bits", 24, "16 fractional bits"),
]


def by_attribute(section: str, option: str, value: Any, folder: Path) -> None:
    setattr(getattr(crypten.cfg, section), option, value)


def by_item(section: str, option: str, value: Any, folder: Path) -> None:
    crypten.cfg[section][option] = value


def by_path(section: str, option: str, value: Any, folder: Path) -> None:
    crypten.cfg[f"{section}.{option}"] = value


def by_dotted_attribute(section: str, option: str, value: Any, folder: Path) -> None:
    setattr(crypten.cfg, f"{section}.{option}", value)


def by_whole_section(section: str, option: str, value: Any, folder: Path) -> None:
    setattr(crypten.cfg, section, {option: value})


def by_override(section: str, option: str, value: Any, folder: Path) -> None:
    with crypten.cfg.temp_override({f"{section}.{option}": value}):
        pytest.fail("it was set")


def by_file(section: str, option: str, value: Any, folder: Path) -> None:
    path = folder / "config.yaml"
    path.write_text(f"{section}:\n  {option}: {value}\n")
    crypten.cfg.load_config(str(path))


def by_init(section: str, option: str, value: Any, folder: Path) -> None:
    path = folder / "config.yaml"
    path.write_text(f"{section}:\n  {option}: {value}\n")
    run(2, lambda _: crypten.init(config_file=str(path)))


def by_set_config(section: str, option: str, value: Any, folder: Path) -> None:
    from omegaconf import OmegaConf

    crypten.cfg.set_config(OmegaConf.create({section: {option: value}}))


WAYS = [
    by_attribute,
    by_item,
    by_path,
    by_dotted_attribute,
    by_whole_section,
    by_override,
    by_file,
    by_init,
    by_set_config,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize(("section", "option", "value", "why"), OPTIONS, ids=lambda v: str(v)[:12])
def test_an_unsafe_option_is_refused_however_it_is_set(
    way: Callable[..., None], section: str, option: str, value: Any, why: str, tmp_path: Path
) -> None:
    before = getattr(getattr(crypten.cfg, section), option)
    with pytest.raises(Unsupported, match=rf"{section}\.{option} = .* is refused: .*{why}"):
        way(section, option, value, tmp_path)
    assert getattr(getattr(crypten.cfg, section), option) == before


def test_what_holds_anyway_may_be_set_and_other_options_are_free() -> None:
    for section, option, value in (
        ("mpc", "protocol", "beaver"),
        ("mpc", "active_security", False),
        ("encoder", "precision_bits", 16),
        ("debug", "debug_mode", "False"),
    ):
        setattr(getattr(crypten.cfg, section), option, value)
    with crypten.cfg.temp_override({"functions.exp_iterations": 9}):
        assert crypten.cfg.functions.exp_iterations == 9
    assert crypten.cfg.functions.exp_iterations == 8
    assert "provider" in repr(crypten.cfg.mpc)


def in_session(action: Callable[[], Any]) -> None:
    def program(session: Session) -> None:
        crypten.init()
        action()

    run(2, program)


def test_every_name_of_crypten_s_tensor_is_ours() -> None:
    from mpcpriv.engine.tensor import SharedTensor

    assert set(crypten.CrypTensor.__CRYPTENSOR_TYPES__.values()) == {SharedTensor}
    assert crypten.mpc.MPCTensor is crypten.mpc.mpc.MPCTensor is SharedTensor
    for kept in crypten.CrypTensor.__subclasses__():  # unless collected by now
        if kept.__module__ == "crypten.mpc.mpc":
            with pytest.raises(Unsupported, match="unsafe"):
                kept(torch.ones(2))


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "CrypTen's sharing": (
        lambda: crypten.mpc.primitives.ArithmeticSharedTensor(torch.ones(2), size=(2,)),
        "unsafe",
    ),
    "CrypTen's binary sharing": (
        lambda: crypten.mpc.primitives.BinarySharedTensor(torch.ones(2).long(), size=(2,)),
        "unsafe",
    ),
    "run_multiprocess": (lambda: crypten.mpc.run_multiprocess(world_size=2), "mpcpriv.launch"),
    "run_multiprocess of context": (lambda: crypten.mpc.context.run_multiprocess(2), "mpcpriv.launch"),
    "init_thread": (lambda: crypten.init_thread(0, 2), "mpcpriv.launch"),
    "manual_seed": (lambda: crypten.manual_seed(1, 2, 3), "seeds cannot be chosen"),
    "generators": (lambda: crypten.generators["local"], "generators"),
    "generators by device": (lambda: crypten.generators["prev"][torch.device("cpu")], "generators"),
    "another precision": (lambda: crypten.cryptensor(torch.ones(1), precision=8), "precision=8.*16"),
    "another precision of shares": (
        lambda: crypten.mpc.MPCTensor.from_shares(torch.ones(1).long(), precision=0),
        "precision=0",
    ),
    "binary sharing": (
        lambda: crypten.cryptensor(torch.ones(1), ptype=crypten.mpc.binary),
        "ptype=binary",
    ),
    "conversion to binary": (lambda: crypten.cryptensor(torch.ones(1)).to(crypten.mpc.binary), "binary"),
    "a GPU": (lambda: crypten.cryptensor(torch.ones(1), device="cuda"), "CPU"),
    "the dealer's rank": (lambda: crypten.communicator.get().get_ttp_rank(), "dealer"),
    "several powers": (lambda: crypten.cryptensor(torch.ones(2)).pow(torch.tensor([1, 2])), "pos_pow"),
    "an encrypted power": (lambda: crypten.cryptensor(torch.ones(2)) ** crypten.cryptensor(1), "pos_pow"),
    "a negative base": (lambda: (-2) ** crypten.cryptensor(torch.ones(2)), "positive number"),
    "a small threshold of softplus": (
        lambda: torch.nn.functional.softplus(crypten.cryptensor(torch.ones(2)), 1, 5),
        "at least 11",
    ),
    "an unknown norm": (lambda: crypten.cryptensor(torch.ones(2, 2)).norm("nuc"), "norm with p='nuc'"),
    "another type of result": (
        lambda: torch.nn.functional.softmax(crypten.cryptensor(torch.ones(2)), 0, dtype=torch.float64),
        "torch.softmax",
    ),
    "in place": (
        lambda: torch.nn.functional.silu(crypten.cryptensor(torch.ones(2)), inplace=True),
        "torch.silu",
    ),
    "reflecting pads": (lambda: crypten.cryptensor(torch.ones(3)).pad((1, 1), mode="reflect"), "reflect"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_offered_says_so(name: str) -> None:
    action, why = REFUSED[name]
    with pytest.raises(Unsupported, match=why):
        in_session(action)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"src": 2}, "src=2.*ranks 0 to 1"),
        ({"src": -1}, "src=-1"),
        ({"src": "alice"}, "src='alice'"),
        ({"tensor": None, "src": 0}, "must give the tensor|size="),
        ({"tensor": None, "src": 1}, "must give the tensor|size="),
        ({"tensor": torch.tensor([1.0, float("nan")])}, r"nan at index \[1\]"),
        ({"tensor": ["a"]}, "numbers"),
    ],
    ids=str,
)
def test_an_input_that_cannot_be_shared_says_why(arguments: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        in_session(lambda: crypten.cryptensor(**{"tensor": torch.ones(2), **arguments}))


def test_opening_to_nobody_known_is_refused() -> None:
    for dst in (2, -1, [0, 5]):
        with pytest.raises(UsageError, match="ranks 0 to 1"):
            in_session(lambda dst=dst: crypten.cryptensor(torch.ones(1)).get_plain_text(dst=dst))


@pytest.mark.parametrize("loss", ["MSELoss", "L1Loss", "BCELoss", "BCEWithLogitsLoss", "CrossEntropyLoss"])
def test_a_loss_on_plain_labels_is_refused_and_shares_nothing(loss: str) -> None:
    def program(session: Session) -> None:
        crypten.init()
        x = crypten.cryptensor(torch.full((2, 2), 0.5), src=0)
        labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        index, rounds = session._zero_index, session.cost.rounds
        for arguments in ((x, labels), (labels, x)):
            with pytest.raises(UsageError, match="src=RANK"):
                getattr(crypten.nn, loss)()(*arguments)
        assert (session._zero_index, session.cost.rounds) == (index, rounds)

    run(2, program)


def test_without_parties_there_is_nothing_to_initialise() -> None:
    for action in (crypten.init, lambda: crypten.cryptensor(torch.ones(1)), lambda: crypten.rand(1)):
        with pytest.raises(UsageError, match="mpcpriv launch"):
            action()
    assert not crypten.is_initialized()


def test_one_party_alone_is_refused() -> None:
    from tests.protocol.parties import outcomes, party

    results, failed = outcomes([party(lambda _: None), mpcpriv.engine.deal])
    assert failed[0] == 0
    assert isinstance(results[0], UsageError)
    assert "at least two parties" in str(results[0])


def test_a_thread_has_one_session() -> None:
    def program(session: Session) -> None:
        with pytest.raises(UsageError, match="session already"):
            mpcpriv.engine.join(session.transport)

    run(2, program)


# Randomness.

TORCH_RANDOM = [
    *("rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like", "bernoulli"),
    *("multinomial", "normal", "poisson", "manual_seed", "seed", "Generator", "dropout"),
]
TENSOR_RANDOM = ["random_", "uniform_", "normal_", "bernoulli_", "exponential_", "geometric_", "cauchy_"]


def every_protocol(session: Session) -> None:
    crypten.init()
    x = crypten.cryptensor(torch.arange(6.0).reshape(2, 3) - 2.5, src=0)
    y = crypten.cryptensor(torch.arange(6.0).reshape(2, 3) / 4 + 0.5, src=1)
    for _ in range(2):
        (x * y + x.square() * 0.3 - y / 3).get_plain_text()
        x.matmul(y.t()).get_plain_text(dst=1)
        x.reshape(1, 2, 3).conv1d(y.reshape(1, 2, 3), padding=1).get_plain_text()
    ((x < y) + (x == y)).sum().get_plain_text()
    x.max(dim=0)[0].get_plain_text()
    x.reshape(1, 1, 2, 3).max_pool2d(2).get_plain_text()
    for name in ("sigmoid", "tanh", "exp", "erf", "cos", "relu", "abs"):
        getattr(x, name)().get_plain_text()
    for name in ("log", "sqrt", "reciprocal", "inv_sqrt"):
        getattr(y, name)().get_plain_text()
    y.softmax(1).get_plain_text()
    crypten.rand(2, 3).get_plain_text()
    crypten.bernoulli(y.sigmoid()).get_plain_text()
    layer = crypten.nn.Linear(3, 1).encrypt(src=0)
    crypten.nn.MSELoss()(layer(x), y.sum(1, keepdim=True)).backward()
    crypten.optim.SGD(layer.parameters(), lr=0.1).step()
    comm = crypten.communicator.get()
    comm.all_reduce(torch.ones(2).long())
    comm.broadcast_obj([1], 0)


def test_no_generator_of_torch_numpy_or_python_is_reached() -> None:
    # A layer's initial weights are CrypTen's, plain and public; they are drawn before the check begins.
    layers = iter([crypten.nn.Linear(3, 1) for _ in range(2)])
    run(2, every_protocol)  # compiled kernels and lazy imports are not what is looked at

    def drawn(*_: Any, **__: Any) -> Any:
        raise AssertionError("a generator that is not cryptographic was reached")

    def names(module: Any) -> list[str]:
        return [name for name in dir(module) if name[0] != "_" and callable(getattr(module, name))]

    places = [(torch, name) for name in TORCH_RANDOM]
    places += [(torch.Tensor, name) for name in TENSOR_RANDOM]
    places += [(np.random, name) for name in names(np.random)]
    places += [(random, name) for name in names(random)]
    patches = [mock.patch.object(module, name, drawn) for module, name in places]
    patches.append(mock.patch.object(crypten.nn, "Linear", next_layer(layers)))
    for patch in patches:
        patch.start()
    try:
        with pytest.raises(AssertionError, match="reached"):
            torch.rand(1)
        run(2, every_protocol)
    finally:
        for patch in reversed(patches):
            patch.stop()


def next_layer(layers: Iterator[Any]) -> Callable[..., Any]:
    """Encrypting changes a layer in place, so each party takes one of its own."""

    def taken(*_: Any) -> Any:
        return next(layers)

    return taken


# What never shows.


def test_no_share_shows_in_text() -> None:
    def program(session: Session) -> tuple[list[str], set[str]]:
        crypten.init()
        x = crypten.cryptensor(torch.tensor([123456.0, 654321.0]), src=0)
        dealt = session.correlations.take(SquarePair((2,)))
        secrets = [*x.share.tolist(), *dealt.masks[0].tolist(), *(m.tolist() for m in dealt.derived())]
        shown = [
            f(value)
            for value in (x, [x], {"x": x}, x > 0, dealt, session, session._private)
            for f in (repr, str)
        ]
        shown += [f"{x}", f"{x!s:>10}"]
        return shown, {str(number) for number in secrets if isinstance(number, int)}

    for shown, secrets in run(2, program):
        for text in shown:
            assert not any(secret in text for secret in secrets)
            assert "123456" not in text
            assert "654321" not in text
        assert "<shares>" in shown[0]


def test_a_key_does_not_show() -> None:
    key = bytes(range(16))
    text = repr(Prg(key)) + str(Prg(key))
    assert key.hex() not in text
    assert repr(key) not in text
    assert text == "Prg(<key>)" * 2
    assert not hasattr(Prg(key), "__dict__")


def test_no_data_shows_in_an_error_about_another_operation() -> None:
    """What a peer sends at another place of the program may be its row: the message names the place alone."""
    row = torch.full((5,), int.from_bytes(b"SECRETS!", "little"))

    def sends(session: Session) -> None:
        crypten.init()
        crypten.communicator.get().send(row, 1)

    def opens(session: Session) -> None:
        session.open("x", [row])

    def opens_another(session: Session) -> None:
        session.open("y", [torch.ones(2, dtype=torch.int64)])

    for program, place in ((sends, "send int64[5]"), (opens, "step 1: x int64[5]")):
        errors = [error for error in failures([program, opens_another]) if error is not None]
        assert any(isinstance(error, Desynchronised) for error in errors)
        assert any(place in str(error) for error in errors)
        for error in errors:
            assert "SECRETS" not in str(error)
            assert re.fullmatch(r"[ -~]+", str(error))

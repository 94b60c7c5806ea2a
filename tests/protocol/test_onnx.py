"""ONNX files: converted, compared with torch and with onnx's reference, encrypted, and refused by name."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import onnx
import onnx.reference
import pytest
import torch
from onnx import helper
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own name

import mpcpriv.engine
from mpcpriv.engine.session import Session
from mpcpriv.errors import Unsupported, UsageError
from tests.protocol.onnx_cases import CASES, LENET, MLP, ROW, graph, ints
from tests.protocol.parties import run

mpcpriv.engine.activate()

import crypten  # noqa: E402
import crypten.nn  # noqa: E402

DEFAULT = {
    "gelu", "hard sigmoid", "arithmetic", "comparisons", "shapes", "conv1d",
    "conv2d same lower", "conv2d transposed, uneven", "max pool, uneven pads",
    "average pool, uneven pads not counted", "batch norm", "group norm", "embedding", "weights in a constant",
    "attention",
}  # fmt: skip
THREE = {"residual block", "attention", "comparisons"}
"""The models that three parties compute."""


def with_other_values(model: Any) -> Any:
    """What a party passes that knows the architecture only."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for tensor in [*other.parameters(), *other.buffers()]:
            tensor.fill_(0.5)
    return other


def prepared(name: str) -> tuple[onnx.ModelProto, nn.Module, torch.Tensor, torch.Tensor]:
    """The model, its twin, an input that they take plain, and the same as it is encrypted."""
    model, twin, x = CASES[name].made()
    if name != "embedding":
        return model, twin, x, x
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    indices = torch.tensor([[0, 4, 2, 2], [1, 3, 0, 4]])
    return model, twin, indices, F.one_hot(indices, 5)


@pytest.mark.parametrize("name", CASES)
def test_a_graph_computes_what_torch_and_onnx_compute(name: str) -> None:
    model, twin, x, _ = prepared(name)
    converted = crypten.nn.from_onnx(model)
    more = torch.cat([x, x.flip(0), x])  # another batch than it was converted with
    for given in (x, more):
        with torch.no_grad():
            expected, found = twin(given), converted(given)
        (reference,) = onnx.reference.ReferenceEvaluator(model).run(None, {"x": given.numpy()})
        assert found.shape == expected.shape == reference.shape
        assert torch.allclose(found, expected, atol=1e-4)
        assert torch.allclose(found, torch.tensor(reference), atol=1e-4)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in DEFAULT else pytest.mark.slow) for n in CASES]
)
def test_a_graph_computes_the_same_encrypted(name: str) -> None:
    model, twin, plain, secret = prepared(name)
    converted = crypten.nn.from_onnx(model)
    with torch.no_grad():
        expected = twin(plain).double()

    def program(session: Session) -> Any:
        crypten.init()
        mine = copy.deepcopy(converted) if session.rank == 1 else with_other_values(converted)
        mine.encrypt(src=1)
        return mine(crypten.cryptensor(secret, src=0)).get_plain_text()

    for found in run(3 if name in THREE else 2, program):
        assert found.shape == expected.shape
        assert ((found - expected).abs() / expected.abs().clamp(min=1)).max() < 1e-2


def test_real_digits_are_read_as_well_as_in_plain() -> None:
    from sklearn.datasets import load_digits

    images, classes = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(classes)
    train, test = slice(0, 1500), slice(1500, None)
    torch.manual_seed(0)
    mlp = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    lenet = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 10),
    )  # fmt: skip
    for network, body, shape in ((mlp, MLP, (64,)), (lenet, LENET, (1, 8, 8))):
        optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
        for _ in range(120):
            optimiser.zero_grad()
            F.cross_entropy(network(x[train].reshape(-1, *shape)), y[train]).backward()
            optimiser.step()
        rows = x[test].reshape(-1, *shape)
        with torch.no_grad():
            logits = network(rows)
        accuracy = (logits.argmax(1) == y[test]).double().mean()
        assert accuracy > 0.85, "the plain twin learns"
        weights = {f"p{name.replace('.', '_')}": v for name, v in network.state_dict().items()}
        converted = crypten.nn.from_onnx(graph(body, weights, (1, *shape)))

        def program(session: Session, converted: Any = converted, rows: torch.Tensor = rows) -> Any:
            crypten.init()
            mine = copy.deepcopy(converted).encrypt(src=0)
            return mine(crypten.cryptensor(rows, src=1)).get_plain_text()

        found = run(2, program)[0]
        assert torch.allclose(found, logits.double(), rtol=1e-3, atol=1e-2)
        assert (found.argmax(1) == y[test]).double().mean() == accuracy


def small(opset: int = 18) -> onnx.ModelProto:
    torch.manual_seed(1)
    weights = {f"p{n.replace('.', '_')}": v for n, v in nn.Sequential(
        nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2)).state_dict().items()}  # fmt: skip
    return graph(MLP, weights, ROW, opset)


def test_an_onnx_model_trains_as_torch_with_its_batch_statistics() -> None:
    model, twin, x = CASES["residual block"].made()
    goal = torch.randn(2, 3)
    converted = crypten.nn.from_onnx(model)
    twin.train()
    optimiser = torch.optim.SGD(twin.parameters(), lr=0.05, momentum=0.9)
    for _ in range(5):
        optimiser.zero_grad()
        F.mse_loss(twin(x), goal).backward()
        optimiser.step()

    def program(session: Session) -> Any:
        crypten.init()
        mine = copy.deepcopy(converted).encrypt(src=0).train()
        secret, wanted = crypten.cryptensor(x, src=0), crypten.cryptensor(goal, src=1)
        descent = crypten.optim.SGD(mine.parameters(), lr=0.05, momentum=0.9)
        for _ in range(5):
            descent.zero_grad()
            crypten.nn.MSELoss()(mine(secret), wanted).backward()
            descent.step()
        return {name: value.get_plain_text() for name, value in mine.state_dict().items()}

    state = {name.replace(".", "_"): value for name, value in twin.state_dict().items()}
    found = run(2, program)[0]
    assert found.keys() == {name for name in state if "num_batches" not in name}
    for name, value in found.items():
        assert torch.allclose(value, state[name].double(), atol=2e-2), name


def test_every_way_of_giving_a_model(tmp_path: Path) -> None:
    model = small()
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    x = torch.randn(4, 6)
    expected = crypten.nn.from_onnx(model)(x)
    for given in (path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes())):
        assert torch.equal(crypten.nn.from_onnx(given)(x), expected)
    assert list(crypten.nn.from_onnx(path).state_dict()) == ["p0_weight", "p0_bias", "p2_weight", "p2_bias"]


def test_weights_beside_the_file_are_read_from_its_directory_only(tmp_path: Path) -> None:
    expected = crypten.nn.from_onnx(small())(torch.ones(1, 6))
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir(), outside.mkdir()
    onnx.save(small(), inside / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    assert torch.equal(crypten.nn.from_onnx(inside / "m.onnx")(torch.ones(1, 6)), expected)
    with pytest.raises(UsageError, match=r"another file \(m\.data\): give the model's path"):
        crypten.nn.from_onnx((inside / "m.onnx").read_bytes())
    (inside / "m.data").rename(outside / "m.data")
    with pytest.raises(UsageError, match="cannot be read"):
        crypten.nn.from_onnx(inside / "m.onnx")
    (inside / "m.data").symlink_to(outside / "m.data")
    with pytest.raises(UsageError, match="only files beside the model"):
        crypten.nn.from_onnx(inside / "m.onnx")
    (inside / "m.data").unlink()
    proto = onnx.load(inside / "m.onnx", load_external_data=False)
    for tensor in proto.graph.initializer:
        tensor.external_data[0].value = "../outside/m.data"
    (inside / "m.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(UsageError, match="only files beside the model"):
        crypten.nn.from_onnx(inside / "m.onnx")


def _external(*locations: str) -> onnx.TensorProto:
    tensor = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[4])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for location in locations:
        tensor.external_data.add(key="location", value=location)
    return tensor


def test_no_other_file_is_read_that_a_function_or_a_second_location_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "further").mkdir()
    for name in ("w", "further/w"):
        (tmp_path / name).write_bytes(torch.ones(4).numpy().tobytes())
    monkeypatch.chdir(tmp_path)
    sets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("own", 1)]
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 4]) for name in "xy"]

    def model(node: onnx.NodeProto, held: list[Any], functions: list[Any]) -> bytes:
        made = onnx.helper.make_graph([node], "g", ends[:1], ends[1:], initializer=held)
        proto = onnx.helper.make_model(made, opset_imports=sets, functions=functions, ir_version=8)
        return bytes(proto.SerializeToString())

    nodes = [
        onnx.helper.make_node("Constant", [], ["w"], value=_external("w")),
        onnx.helper.make_node("Add", ["x", "w"], ["y"]),
    ]
    function = onnx.helper.make_function("own", "F", ["x"], ["y"], nodes, sets[:1])
    given = model(onnx.helper.make_node("F", ["x"], ["y"], domain="own"), [], [function])
    with pytest.raises(UsageError, match="give the model's path"):
        crypten.nn.from_onnx(given)
    Path("f.onnx").write_bytes(given)
    assert torch.equal(crypten.nn.from_onnx("f.onnx")(torch.zeros(1, 4)), torch.ones(1, 4))
    Path("m.onnx").write_bytes(model(nodes[1], [_external("w", "further/w")], []))
    with pytest.raises(UsageError, match="only files beside the model"):
        crypten.nn.from_onnx("m.onnx")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (b"this is no model", "cannot be parsed"),
        (b"", "holds no graph"),
        (3, "not a int"),
        ("no/such/file.onnx", "No such file"),
        (graph("y = Relu(nothing)", {}, ROW), "not a valid ONNX model"),
        (
            graph("y = Relu(x)", {}, ROW, inputs="float[N, M] x"),
            r"input x has the shape \[N, M\].*dummy_input",
        ),
    ],
    ids=["text", "empty", "number", "missing", "invalid", "open"],
)
def test_what_is_no_model_is_said(given: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        crypten.nn.from_onnx(given)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("y = Sort(x)", r"ai\.onnx\.Sort \(node of y\) is not an operator"),
        ("y = com.acme.Secret(x)", r"com\.acme\.Secret \(node of y\)"),
        ("y = Round(x)", r"ai\.onnx\.Round"),
        ("y = ArgMax(x)", r"ai\.onnx\.ArgMax"),
        ("y = Cast<to=7>(x)", r"ai\.onnx\.Cast.*rounds"),
        ("e = Constant<value_float=0.3>() y = Pow(x, e)", "exponent 0.3"),
        ("y = Pow(x, x)", "x is not a constant"),
        ("y, m = Dropout(x)", r"further outputs \(m\)"),
        ("y = RandomNormalLike(x)", "RandomNormalLike"),
        (
            """c = Constant<value_float=0.0>() s = ReduceSum<keepdims=0>(x) b = Greater(s, c)
            y = If(b) <then_branch = t () => (float z) { z = Constant<value_float=1.0>() },
            else_branch = e () => (float z) { z = Constant<value_float=1.0>() }>""",
            "ai.onnx.If .*control flow",
        ),
    ],
)
def test_what_is_not_offered_is_refused_by_operator_and_node(body: str, words: str) -> None:
    model = graph(body, {}, ROW)
    model.opset_import.append(helper.make_opsetid("com.acme", 1))
    with pytest.raises(Unsupported, match=words):
        crypten.nn.from_onnx(model)


def test_old_operators_and_values_that_are_no_tensors_are_refused() -> None:
    with pytest.raises(Unsupported, match=r"version \[6\]"):
        crypten.nn.from_onnx(small(6))
    with pytest.raises(Unsupported, match="x is no tensor"):
        crypten.nn.from_onnx(graph("y = SequenceLength(x)", {}, ROW, inputs="seq(float[2]) x"))


def test_a_wrong_translation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from mpcpriv.engine.models.onnx import graph as translated

    monkeypatch.setitem(translated.OPERATORS, "Relu", lambda call: call.tensor(0).abs())
    with pytest.raises(Unsupported, match="away from the original"):
        crypten.nn.from_onnx(small())


def test_single_numbers_in_initializers_are_secret_unless_an_operator_needs_them() -> None:
    weights = {"scale": torch.tensor(3.0), "two": torch.tensor(2.0)}
    converted = crypten.nn.from_onnx(graph("h = Mul(x, scale) y = Pow(h, two)", weights, ROW))
    assert list(converted.state_dict()) == ["scale"]
    assert "3.0" not in str(converted.architecture())
    constant = crypten.nn.from_onnx(CASES["weights in a constant"].made()[0])
    assert list(constant.state_dict()) == ["w"]


def test_a_dummy_input_opens_dimensions() -> None:
    model = graph("y = ReduceMean<keepdims=0>(x, one)", {"one": ints(1)}, ROW, inputs="float[N, M, 2] x")
    converted = crypten.nn.from_onnx(model, torch.zeros(2, 5, 2))
    x = torch.randn(3, 5, 2)
    assert torch.allclose(converted(x), x.mean(1), atol=1e-6)
    with pytest.raises(UsageError, match="takes 1 tensors"):
        crypten.nn.from_onnx(model, (torch.zeros(2, 5, 2), torch.zeros(1)))


@pytest.mark.parametrize(("name", "dtype"), [("double", torch.float64), ("float16", torch.float16)])
def test_other_real_types_convert(name: str, dtype: torch.dtype) -> None:
    weight = torch.linspace(-1, 1, 12).reshape(6, 2).to(dtype)
    converted = crypten.nn.from_onnx(graph("y = MatMul(x, w)", {"w": weight}, ROW, inputs=f"{name}[N, 6] x"))

    def program(session: Session) -> Any:
        crypten.init()
        mine = copy.deepcopy(converted).encrypt(src=0)
        return mine(crypten.cryptensor(torch.ones(2, 6), src=1)).get_plain_text()

    assert torch.allclose(run(2, program)[0], weight.double().sum(0).expand(2, 2), atol=1e-3)


def test_lengths_that_the_graph_computes_follow_the_batch() -> None:
    body = """s = Shape(x) zero = Constant<value_ints=[0]>() one = Constant<value_ints=[1]>()
        two = Constant<value_ints=[2]>() n = Slice(s, zero, one) m = Slice(s, one, two) nm = Mul(n, m)
        last = Constant<value_ints=[-1]>() to = Concat<axis=0>(nm, last) flat = Reshape(x, to)
        wrong = Constant<value_ints=[-1, 1]>()
        minus = Constant<value_int=-1>() e = Equal(wrong, minus) ones = Constant<value_ints=[1, 1]>()
        shape = Where(e, ones, wrong) half = Constant<value=float[1, 1] {0.5}>() h = Expand(half, shape)
        y = Sub(flat, h)"""
    converted = crypten.nn.from_onnx(graph(body, {}, (3, 4, 5)))
    for batch in (1, 2, 7):
        x = torch.randn(batch, 4, 5)
        assert torch.equal(converted(x), x.reshape(4 * batch, 5) - 0.5)


def test_a_function_is_compared_inside_its_domain() -> None:
    converted = crypten.nn.from_onnx(graph("y = Log(x)", {}, ROW))
    assert torch.allclose(converted(torch.full((2, 6), 3.0)), torch.full((2, 6), 3.0).log())
    below = crypten.nn.from_onnx(graph("y = Less(x, c)", {"c": torch.tensor(0.5)}, ROW))
    assert torch.equal(
        below(torch.tensor([[0.4, 0.6, 0, 1, -1, 2]])).int(), torch.tensor([[1, 0, 1, 0, 1, 0]])
    )
    with pytest.raises(Unsupported, match="nothing finite"):
        crypten.nn.from_onnx(graph("s = Mul(x, x) n = Neg(s) y = Log(n)", {}, ROW))


def test_a_fixed_batch_stays_fixed_where_the_graph_says_so() -> None:
    model = graph("y = Reshape(x, s)", {"s": ints(1, 12)}, ROW, inputs="float[2, 6] x")
    converted = crypten.nn.from_onnx(model)
    assert converted(torch.ones(2, 6)).shape == (1, 12)


def test_onnx_models_are_given_by_one_party_and_saved() -> None:
    converted = crypten.nn.from_onnx(small())
    x = torch.randn(3, 6)

    def program(session: Session) -> Any:
        crypten.init()
        mine = crypten.load_from_party(
            preloaded=copy.deepcopy(converted) if session.rank == 0 else None, src=0
        )
        file = io.BytesIO()
        crypten.save(mine, file, passphrase="of a test")
        file.seek(0)
        again = crypten.load(file, passphrase="of a test")
        return again(crypten.cryptensor(x, src=1)).get_plain_text()

    for found in run(3, program):
        assert torch.allclose(found, converted(x).detach().double(), atol=1e-3)

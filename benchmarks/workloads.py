"""What the benchmarks compute, once, for any backend of CrypTen; and a party that computes it on command.

As a program (of `mpcpriv launch --party`, or a process of CrypTen as it is) this file reads one command per
line from standard input and answers each on standard output, until the input ends. The times are those of
the machine's monotonic clock, which all processes on it share.

    {"prepare": NAME}                                        makes the inputs; answers {}
    {"run": NAME, "start": TIME, "warm": N, "times": N}      waits until TIME, runs, answers an `Answer`

`--crypten PROVIDER` is CrypTen's own backend, with TTP or TFP; the rank stands in the environment.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypedDict

import torch

ANSWER: Final = "@answer "
"""What stands before an answer, among whatever libraries print."""


class Prepared(NamedTuple):
    """A workload with its inputs.

    Attributes:
        run: does it once.
        error: the largest difference to plain torch, from what the last of so many runs returned.
    """

    run: Callable[[], Any]
    error: Callable[[Any, int], float]


class Answer(TypedDict):
    """What a party says of a run.

    Attributes:
        spans: when each run, warming up or not, began and ended.
        rounds: of one run, the last; None where the backend does not count.
        waited: seconds of the last run in which this party waited for other parties; None likewise.
        error: the largest difference to plain torch after the last.
    """

    spans: list[tuple[float, float]]
    rounds: int | None
    waited: float | None
    error: float


def _numbers(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _difference(wanted: torch.Tensor) -> Callable[[Any, int], float]:
    return lambda result, _: float((result.get_plain_text() - wanted).abs().max())


def product(count: int) -> Prepared:
    """A vector of one party times one of another."""
    import crypten

    x, y = _numbers(count), _numbers(count, seed=2)
    a, b = crypten.cryptensor(x, src=0), crypten.cryptensor(y, src=1)
    return Prepared(lambda: a.clone() * b.clone(), _difference(x * y))  # none was opened before


def matmul(size: int) -> Prepared:
    """A square matrix of one party times one of another."""
    import crypten

    x, y = _numbers(size, size), _numbers(size, size, seed=2)
    a, b = crypten.cryptensor(x, src=0), crypten.cryptensor(y, src=1)
    return Prepared(lambda: a.clone() @ b.clone(), _difference(x @ y))


def comparison(count: int) -> Prepared:
    """A vector with zero."""
    import crypten

    x = _numbers(count)
    a = crypten.cryptensor(x)
    return Prepared(lambda: a < 0, _difference((torch.round(x * 2**16) < 0).float()))


def sigmoid(count: int) -> Prepared:
    """Of a vector of normal deviates."""
    import crypten

    x = _numbers(count)
    return Prepared(crypten.cryptensor(x).sigmoid, _difference(x.sigmoid()))


def argmax(count: int) -> Prepared:
    """Of a vector, one-hot."""
    import crypten

    x = _numbers(count)
    wanted = torch.nn.functional.one_hot(x.argmax(), count).float()
    return Prepared(crypten.cryptensor(x).argmax, _difference(wanted))


def logistic(rows: int, columns: int, steps: int) -> Prepared:
    """Full-batch steps of logistic regression; one party has the features and another the labels."""
    import crypten
    from crypten import nn

    x = _numbers(rows, columns)
    labels = (x[:, :1] + _numbers(rows, 1, seed=2) > 0).float()
    features, target = crypten.cryptensor(x, src=0), crypten.cryptensor(labels, src=1)
    torch.manual_seed(1)
    model = nn.Linear(columns, 1)
    first = [parameter.detach().clone() for parameter in model.parameters()]
    model.encrypt().train()
    loss, optimiser = nn.BCEWithLogitsLoss(skip_forward=True), crypten.optim.SGD(model.parameters(), lr=0.1)

    def run() -> None:
        for _ in range(steps):
            optimiser.zero_grad()
            loss(model(features), target).backward()
            optimiser.step()

    def error(_: object, runs: int) -> float:
        plain = torch.nn.Linear(columns, 1)
        with torch.no_grad():
            for parameter, value in zip(plain.parameters(), first, strict=True):
                parameter.copy_(value)
        plain_optimiser = torch.optim.SGD(plain.parameters(), lr=0.1)
        for _ in range(runs * steps):
            plain_optimiser.zero_grad()
            torch.nn.functional.binary_cross_entropy_with_logits(plain(x), labels).backward()
            plain_optimiser.step()
        pairs = zip(model.parameters(), plain.parameters(), strict=True)
        return max(float((ours.get_plain_text() - plain.detach()).abs().max()) for ours, plain in pairs)

    return Prepared(run, error)


def perceptron(batch: int) -> Prepared:
    """Inference of 784-128-128-10; one party has the model, which stays, another new data."""
    import crypten
    from crypten import nn

    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))
    wanted = x = _numbers(batch, 784)
    weights = [parameter.detach().clone() for parameter in model.parameters()]
    for layer, (weight, bias) in enumerate(zip(weights[::2], weights[1::2], strict=True)):
        wanted = torch.nn.functional.linear(wanted.relu() if layer else wanted, weight, bias)
    model.encrypt(src=0).eval()
    data = crypten.cryptensor(x, src=1)

    def run() -> Any:
        result = model(data.clone())
        _ = result._tensor  # mpcpriv truncates a layer's result when somebody needs it
        return result

    return Prepared(run, _difference(wanted))


WORKLOADS: Final[dict[str, Callable[[], Prepared]]] = {
    "product, 10^6": lambda: product(1_000_000),
    "matmul, 512": lambda: matmul(512),
    "comparison, 10^4": lambda: comparison(10_000),
    "comparison, 10^6": lambda: comparison(1_000_000),
    "sigmoid, 10^3": lambda: sigmoid(1_000),
    "sigmoid, 10^5": lambda: sigmoid(100_000),
    "logistic step, 128 x 30": lambda: logistic(128, 30, 1),
    "10 logistic steps, 10^4 x 30": lambda: logistic(10_000, 30, 10),
    "MLP inference, batch 128": lambda: perceptron(128),
    "argmax, 10^3": lambda: argmax(1_000),
    "argmax, 10^4": lambda: argmax(10_000),
}
"""By name."""


def serve(cost: Callable[[], tuple[int, float] | None]) -> None:
    """Obeys the commands on standard input, to its end.

    Args:
        cost: the rounds and the seconds of waiting so far, where they are counted.
    """
    prepared: Prepared | None = None
    runs = 0
    for line in sys.stdin:
        command = json.loads(line)
        answer: Answer | dict[str, object] = {}
        if "prepare" in command:
            prepared, runs = None, 0  # the memory first
            prepared = WORKLOADS[command["prepare"]]()
        elif prepared is not None:
            spans, result, before = [], None, None
            time.sleep(max(0.0, command["start"] - time.monotonic()))
            for _ in range(command["warm"] + command["times"]):
                before, began = cost(), time.monotonic()
                result = prepared.run()
                spans.append((began, time.monotonic()))
            after = cost()
            runs += len(spans)
            counted = (after[0] - before[0], after[1] - before[1]) if after and before else (None, None)
            error = prepared.error(result, runs)
            answer = Answer(spans=spans, rounds=counted[0], waited=counted[1], error=error)
        print(ANSWER + json.dumps(answer), flush=True)


def crypten_as_it_is(provider: str) -> None:
    """One process of CrypTen's own backend, unmended but for the import that current torch breaks."""
    from mpcpriv.engine.compat import _MovedInTorch

    sys.meta_path.insert(0, _MovedInTorch())
    import crypten

    crypten.cfg.mpc.provider = provider
    if int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]):
        crypten.mpc.provider.TTPServer()
        return
    crypten.init()
    serve(lambda: None)
    crypten.uninit()


def mpcpriv_party() -> None:
    """What each party of mpcpriv runs."""
    import crypten

    from mpcpriv.engine import session

    crypten.init()
    spent = session.current().cost
    serve(lambda: (spent.rounds, spent.waited))


if __name__ == "__main__" and len(sys.argv) > 1:
    if sys.argv[1] == "--crypten":
        crypten_as_it_is(sys.argv[2])
    else:
        mpcpriv_party()

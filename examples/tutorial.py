"""CrypTen in one page: share, compute, compare, open, and check every result against torch.

Any number of parties from two up; the README beside this file has the command. Two of them bring data: the
first party a table `x`, the second a table `y`. Every party runs this same file; a tensor given to
`cryptensor(..., src=k)` matters at party k only (the others lend its shape). From then on it exists as
shares: each party holds random numbers, which only together add up to the values.

Opened to everybody: every result below, and with `x - 1` and the like the inputs too, because a tutorial
wants to look at what it does. Opened to the first party alone: the largest entry of a product.
"""

from __future__ import annotations

import sys

import crypten
import crypten.communicator as comm
import torch

crypten.init()
rank, parties = comm.get().get_rank(), comm.get().get_world_size()
crypten.print(f"{parties} parties; this is party {rank}")

checks: dict[str, float] = {}
"""The largest difference from torch, by what was computed."""


def check(name: str, encrypted: crypten.CrypTensor, expected: torch.Tensor) -> None:
    """Opens a result to everybody and notes how far it is from what torch computes."""
    opened = encrypted.get_plain_text()
    checks[name] = float((opened.double() - expected.double()).abs().max())


# The data. In earnest each of the two would read its own file.
x = torch.tensor([[1.5, -2.0, 3.25], [0.5, 4.0, -1.75]])
y = torch.tensor([[2.0, 0.5, -3.0], [1.0, -4.0, 2.5]])

# Sharing. Nothing is sent yet; the shares come from keys that the parties have agreed.
x_enc = crypten.cryptensor(x, src=0)
y_enc = crypten.cryptensor(y, src=1)
crypten.print("an encrypted tensor shows its shape and no more:", x_enc)

# Arithmetic, with encrypted and with public operands. Sums are free; a product costs messages.
check("x + y", x_enc + y_enc, x + y)
check("x - 1", x_enc - 1, x - 1)
check("3 - x", 3 - x_enc, 3 - x)
check("x * y", x_enc * y_enc, x * y)
check("0.25 * x", 0.25 * x_enc, 0.25 * x)
check("x / 7", x_enc / 7, x / 7)
check("x / y", x_enc / y_enc, x / y)
check("x @ y'", x_enc.matmul(y_enc.t()), x @ y.t())
check("x ** 2", x_enc**2, x**2)
check("mean over rows", x_enc.mean(dim=0), x.mean(dim=0))

# Comparison gives an encrypted 0 or 1, so one can go on computing with the answer.
check("x > y", x_enc > y_enc, x > y)
check("x <= 0.5", x_enc <= 0.5, x <= 0.5)
check("x == 1.5", x_enc == 1.5, x == 1.5)
check("count of negatives", (x_enc < 0).sum(), (x < 0).sum())
check("where x > y: x, else y", crypten.where(x_enc > y_enc, x_enc, y_enc), torch.where(x > y, x, y))
check("relu", x_enc.relu(), x.relu())
check("absolute value", x_enc.abs(), x.abs())
check("sign", x_enc.sign(), x.sign())

# Extremes. Positions come one-hot, because a shared index could not be used to look something up.
check("max", x_enc.max(), x.max())
values, places = x_enc.max(dim=1)
check("max of each row", values, x.max(dim=1).values)
check("where it stands", places, torch.nn.functional.one_hot(x.argmax(dim=1), 3))
check("argmax, as a number", x_enc.argmax(dim=1, one_hot=False), x.argmax(dim=1))
check("argmin, one-hot", y_enc.argmin(dim=1), torch.nn.functional.one_hot(y.argmin(dim=1), 3))

# Functions are approximated in fixed point: 16 bits behind the point.
positive, positive_enc = x.abs() + 0.5, x_enc.abs() + 0.5
check("exp", (-positive_enc).exp(), (-positive).exp())
check("log", positive_enc.log(), positive.log())
check("sqrt", positive_enc.sqrt(), positive.sqrt())
check("1 / x", positive_enc.reciprocal(), positive.reciprocal())
check("sigmoid", x_enc.sigmoid(), x.sigmoid())
check("tanh", x_enc.tanh(), x.tanh())
check("softmax", x_enc.softmax(dim=1), x.softmax(dim=1))

# Putting tensors together and taking them apart is free: it happens to each share.
check("stack", crypten.stack([x_enc, y_enc]), torch.stack([x, y]))
check("cat along columns", crypten.cat([x_enc, y_enc], dim=1), torch.cat([x, y], dim=1))
check("row, transposed, reshaped", x_enc.t().reshape(2, 3)[1], x.t().reshape(2, 3)[1])
part = y_enc.clone()
part[:, 0] = x_enc[:, 0]
check("assigned column", part, torch.cat([x[:, :1], y[:, 1:]], dim=1))

# Gradients: CrypTen's autograd runs on shares as torch's does on numbers.
weights, inputs = torch.tensor([[0.5], [-1.0], [2.0]], requires_grad=True), x
weights_enc = crypten.cryptensor(weights.detach(), src=0, requires_grad=True)
(inputs @ weights).sigmoid().sum().backward()
x_enc.matmul(weights_enc).sigmoid().sum().backward()
assert weights.grad is not None
check("gradient", weights_enc.grad, weights.grad)

# Opening to one party: the others take part, and get None.
largest = (x_enc * y_enc).max().get_plain_text(dst=0)
if rank == 0:
    checks["max of the product, for party 0"] = abs(float(largest) - float((x * y).max()))
    print(f"the largest entry of the product is {float(largest):.4f}, and only this party knows it")
else:
    assert largest is None

# What it cost this party. `crypten.print` speaks at the first party, `print` at each.
stats = comm.get().get_communication_stats()
print(f"{stats['rounds']} rounds, {stats['bytes']:,} bytes, {stats['time']:.2f} s waiting for the others")

for name, difference in checks.items():
    crypten.print(f"  {name:<32} off by {difference:.1e}")
worst = max(checks, key=lambda name: checks[name])
crypten.print(f"largest difference from torch: {checks[worst]:.1e} in {len(checks)} results")
if not checks[worst] < 1e-3:
    sys.exit(f"{worst}: off by {checks[worst]:.1e}, which is not what torch computes")

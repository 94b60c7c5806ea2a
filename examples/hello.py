"""The mean of everybody's salary, and of nobody's in particular.

    mpcpriv launch -n 3 examples/hello.py

Every party knows one number. Opened to everybody: the sum, and so the mean.
"""

from __future__ import annotations

import sys

import crypten
import crypten.communicator as comm
import torch

crypten.init()
rank, parties = comm.get().get_rank(), comm.get().get_world_size()

# Here each party makes up its number; the others' are not in its memory.
mine = torch.tensor(48_000.0 + 1_500.0 * rank)
salaries = [crypten.cryptensor(mine, src=source) for source in range(parties)]
mean = float(sum(salaries).get_plain_text()) / parties
print(f"mean salary: {mean:,.2f}")

# The numbers are made up, so that one can check.
expected = 48_000.0 + 1_500.0 * (parties - 1) / 2
if abs(mean - expected) > 0.01:
    sys.exit(f"the mean is {expected:,.2f}, not {mean:,.2f}")

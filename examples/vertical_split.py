"""One party has the measurements, another the diagnoses: together they train a classifier.

    mpcpriv launch -n 2 examples/vertical_split.py

The data are scikit-learn's Wisconsin breast-cancer table. Rank 0, a laboratory, holds 30 measurements of each
of 569 patients; rank 1, a registry, holds their diagnoses, in the same order. (Further parties bring nothing
and only take part in the computation.)

Opened to the laboratory alone: the trained model, which it wants to apply to new patients. Nobody else
learns a thing, not even the loss; the number of patients and of measurements is public.
"""

from __future__ import annotations

import sys

import crypten
import crypten.communicator as comm
import torch
from sklearn.datasets import load_breast_cancer

STEPS, RATE, MOMENTUM = 40, 0.5, 0.9
LABORATORY, REGISTRY = 0, 1

crypten.init()
rank = comm.get().get_rank()

# Each loads its own columns. The laboratory holds all rows of its columns, so it can standardise them alone.
measurements = diagnoses = None
if rank == LABORATORY:
    raw = torch.from_numpy(load_breast_cancer().data)
    measurements = (raw - raw.mean(0)) / raw.std(0)
if rank == REGISTRY:
    diagnoses = torch.from_numpy(load_breast_cancer().target).double().unsqueeze(1)

# `broadcast_size` tells the others the shape, which they cannot know.
x = crypten.cryptensor(measurements, src=LABORATORY, broadcast_size=True)
y = crypten.cryptensor(diagnoses, src=REGISTRY, broadcast_size=True)

# The untrained model is public: all zeros.
start = torch.nn.Linear(x.size(1), 1)
torch.nn.init.zeros_(start.weight)
torch.nn.init.zeros_(start.bias)
model = crypten.nn.Linear(x.size(1), 1)
model.load_state_dict(start.state_dict(), strict=False)
model.encrypt()
model.train()
loss_of = crypten.nn.BCEWithLogitsLoss()
optimizer = crypten.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM)
for step in range(STEPS):
    optimizer.zero_grad()
    loss = loss_of(model(x), y)
    loss.backward()
    optimizer.step()
    if (step + 1) % 10 == 0:
        crypten.print(f"step {step + 1} of {STEPS}")

# The one opening, to one party.
trained = {name: parameter.get_plain_text(dst=LABORATORY) for name, parameter in model.named_parameters()}

if rank != LABORATORY:
    assert all(value is None for value in trained.values())
    print("the model is not mine to see")
    sys.exit(0)

# The check, which only works because this table is public: the same training in plain torch, on everything.
assert measurements is not None
plain, labels = start.double(), torch.from_numpy(load_breast_cancer().target).double().unsqueeze(1)
reference = torch.optim.SGD(plain.parameters(), lr=RATE, momentum=MOMENTUM)
for _ in range(STEPS):
    reference.zero_grad()
    torch.nn.functional.binary_cross_entropy_with_logits(plain(measurements), labels).backward()
    reference.step()

scores = measurements @ trained["weight"].t() + trained["bias"]
accuracy = float(((scores > 0) == labels).double().mean())
difference = max((trained[name] - p).abs().max().item() for name, p in plain.named_parameters())
print(f"accuracy on its own patients: {accuracy:.3f}")
print(f"largest difference from the weights of plain torch: {difference:.1e}")
if not (difference < 0.02 and accuracy > 0.95):
    sys.exit("training on shares is not what training in plain torch is")

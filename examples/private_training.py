"""A classifier learns from everybody's patients, and none of them shows in it: differential privacy.

    mpcpriv launch -n 3 examples/private_training.py

The data are scikit-learn's breast cancer table: 569 patients, thirty measurements of their tumours. Every
party holds some of the patients. Each step takes part of them, which only their owners know; clips each
patient's gradient; and every party adds noise of its own to the sum before anything else is done with it. The
loop is that of Opacus, less the loss: its gradient is all that is needed.

Opened to everybody: the weights. What they tell of any one patient is bounded by epsilon and delta.
"""

from __future__ import annotations

import sys

import crypten
import crypten.communicator as comm
import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression

from mpcpriv import PrivacyEngine

EPSILON, DELTA, EPOCHS, BATCH, CLIP, RATE = 3.0, 1e-5, 12, 64, 1.0, 1.0

crypten.init()
rank, parties = comm.get().get_rank(), comm.get().get_world_size()

# Each party loads its own patients; every fourth is kept for the check. A measurement is scaled by what is
# usual for it, which is taken to be known: were it taken from the data, it would be a release of its own.
table = load_breast_cancer()
everybody = (table.data - table.data.mean(axis=0)) / table.data.std(axis=0)
learned = np.arange(len(everybody)) % 4 != 0
own = everybody[learned][rank::parties], table.target[learned][rank::parties]

model = crypten.nn.Linear(30, 1).encrypt()
engine = PrivacyEngine()
model, optimizer, loader = engine.make_private_with_epsilon(
    module=model,
    optimizer=crypten.optim.SGD(model.parameters(), lr=RATE),
    criterion=crypten.nn.BCEWithLogitsLoss(),
    data=own,
    target_epsilon=EPSILON,
    target_delta=DELTA,
    epochs=EPOCHS,
    batch_size=BATCH,
    max_grad_norm=CLIP,
)
for batch in loader:
    optimizer.step(batch)

# The one opening.
model.decrypt()
spent = engine.get_epsilon(DELTA)
crypten.print(
    f"{len(loader)} steps with {engine.noise_multiplier:.2f} times the clip as noise: epsilon {spent:.2f}"
)

# The check, which only works because this table is public: scikit-learn on everybody's patients.
scores = torch.from_numpy(everybody[~learned]) @ model.weight.detach().flatten() + model.bias.detach()
right = float(((scores > 0).numpy() == table.target[~learned]).mean())
without = LogisticRegression().fit(everybody[learned], table.target[learned])
plain = without.score(everybody[~learned], table.target[~learned])
crypten.print(f"right about {right:.3f} of the patients it has not seen; without noise {plain:.3f}")
if not (spent <= EPSILON and right > plain - 0.08):
    sys.exit(f"private training went wrong: {right:.3f} against {plain:.3f}, epsilon {spent:.2f}")

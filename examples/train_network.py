"""A small convolutional network learns from images that nobody shows.

    mpcpriv launch -n 3 examples/train_network.py

Every party holds 64 of scikit-learn's 8 x 8 handwritten digits, with their labels. They train one network on
all of them: convolution, ReLU, pooling, a linear layer, cross-entropy.

Opened to everybody: the loss of each step. The network itself stays shared, as it would if it were to be used
on shares later (see secret_model.py).
"""

from __future__ import annotations

import sys

import crypten
import crypten.communicator as comm
import torch
from sklearn.datasets import load_digits

EACH, STEPS, RATE, MOMENTUM = 64, 18, 0.4, 0.9

crypten.init()
rank, parties = comm.get().get_rank(), comm.get().get_world_size()

# Each party loads its own rows.
everything = load_digits()
mine = slice(rank * EACH, (rank + 1) * EACH)
own_images = torch.from_numpy(everything.images[mine] / 16).float().unsqueeze(1)
own_labels = torch.nn.functional.one_hot(torch.from_numpy(everything.target[mine]), 10)
batches = [
    (crypten.cryptensor(own_images, src=source), crypten.cryptensor(own_labels, src=source))
    for source in range(parties)
]

# The untrained network is public: every party draws it from the same seed.
torch.manual_seed(3)
plain = torch.nn.Sequential(
    torch.nn.Conv2d(1, 4, kernel_size=3),
    torch.nn.ReLU(),
    torch.nn.AvgPool2d(2),
    torch.nn.Flatten(),
    torch.nn.Linear(36, 10),
)
model = crypten.nn.Sequential(
    crypten.nn.Conv2d(1, 4, kernel_size=3),
    crypten.nn.ReLU(),
    crypten.nn.AvgPool2d(2),
    crypten.nn.Flatten(),
    crypten.nn.Linear(36, 10),
)
model.load_state_dict(plain.state_dict(), strict=False)
model.encrypt()
model.train()

loss_of = crypten.nn.CrossEntropyLoss()
optimizer = crypten.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM)
losses = []
for step in range(STEPS):
    images, labels = batches[step % parties]
    optimizer.zero_grad()
    loss = loss_of(model(images), labels)
    loss.backward()
    optimizer.step()
    losses.append(float(loss.get_plain_text()))
    crypten.print(f"step {step + 1:>2} of {STEPS}: loss {losses[-1]:.4f} on shares")

# The check, which only works because these digits are public: the same training in plain torch.
reference = torch.optim.SGD(plain.parameters(), lr=RATE, momentum=MOMENTUM)
plain_losses = []
for step in range(STEPS):
    rows = slice(step % parties * EACH, (step % parties + 1) * EACH)
    plain_images = torch.from_numpy(everything.images[rows] / 16).float().unsqueeze(1)
    reference.zero_grad()
    plain_loss = torch.nn.functional.cross_entropy(
        plain(plain_images), torch.from_numpy(everything.target[rows])
    )
    plain_loss.backward()
    reference.step()
    plain_losses.append(plain_loss.item())
crypten.print(f"last loss: {losses[-1]:.4f} on shares, {plain_losses[-1]:.4f} in plain torch")
difference = max(abs(a - b) for a, b in zip(losses, plain_losses, strict=True))
crypten.print(f"largest difference of the losses: {difference:.1e}")
if not difference < 0.01:
    sys.exit(f"training on shares is not training in plain torch: the losses differ by {difference:.1e}")

"""A secret model reads secret images.

    mpcpriv launch -n 2 examples/secret_model.py

Rank 0 has trained a small neural network on handwritten digits and does not give it away. Rank 1 has images
and does not show them. The data are scikit-learn's 8 x 8 digits. (Further parties bring nothing and only
take part in the computation.)

Opened to the owner of the images alone: the predicted digits, not even their scores. The architecture of
the network and the number of images are public.
"""

from __future__ import annotations

import sys

import crypten
import crypten.communicator as comm
import torch
from sklearn.datasets import load_digits

MODEL_OWNER, IMAGE_OWNER = 0, 1
TRAINING, IMAGES = slice(0, 1500), slice(1500, 1600)


def trained_network() -> torch.nn.Sequential:
    """What the owner of the model did last year, in plain torch, on images of its own."""
    digits = load_digits()
    images = torch.from_numpy(digits.images[TRAINING] / 16).float().flatten(1)
    labels = torch.from_numpy(digits.target[TRAINING])
    torch.manual_seed(7)
    network = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
    return network.eval()


crypten.init()
rank = comm.get().get_rank()

# The architecture is public; the weights, at the owner only.
model = crypten.nn.Sequential(crypten.nn.Linear(64, 32), crypten.nn.ReLU(), crypten.nn.Linear(32, 10))
if rank == MODEL_OWNER:
    model.load_state_dict(trained_network().state_dict(), strict=False)
model.encrypt(src=MODEL_OWNER)
model.eval()

own_images = None
if rank == IMAGE_OWNER:
    own_images = torch.from_numpy(load_digits().images[IMAGES] / 16).float().flatten(1)
images = crypten.cryptensor(own_images, src=IMAGE_OWNER, broadcast_size=True)

digits = model(images).argmax(dim=1, one_hot=False)
predicted = digits.get_plain_text(dst=IMAGE_OWNER)

if rank != IMAGE_OWNER:
    assert predicted is None
    print("the predictions are not mine to see")
    sys.exit(0)

# The check, which only works because this model can be trained again: the same inference in plain torch.
assert predicted is not None
assert own_images is not None
expected = trained_network()(own_images).argmax(dim=1)
agreeing = int((predicted.long() == expected).sum())
right = int((predicted.long().numpy() == load_digits().target[IMAGES]).sum())
print(f"the first ten of {len(predicted)} images show {predicted[:10].long().tolist()}")
print(f"{right} of {len(predicted)} predictions are right")
print(f"{agreeing} of {len(predicted)} predictions are those of plain inference")
if agreeing < len(predicted):
    sys.exit("encrypted inference is not plain inference")

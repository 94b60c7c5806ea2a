"""A secret model that came as an ONNX file reads secret images.

    mpcpriv launch -n 2 examples/secret_onnx_model.py

Rank 0 has an ONNX file, as any framework writes them: a convolutional network for handwritten digits. Rank 1
has 100 of scikit-learn's 8 x 8 digits. (Further parties bring nothing and only take part in the computation.)

Opened to the owner of the images alone: the predicted digits, not even their scores. The graph in the file
and the number of images are public; the weights are not.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import crypten
import crypten.communicator as comm
import onnx
import onnx.parser
import onnx.reference
import torch
from onnx import numpy_helper
from sklearn.datasets import load_digits

MODEL_OWNER, IMAGE_OWNER = 0, 1
TRAINING, IMAGES = slice(0, 1500), slice(1500, 1600)
GRAPH = """<ir_version: 8, opset_import: ["" : 17]> digits (float[N, 1, 8, 8] pixels) => (float[N, 10] scores)
{
    sixteen = Constant<value_float = 16.0>()
    images = Div(pixels, sixteen)
    seen = Conv<pads = [1, 1, 1, 1]>(images, kernels, shifts)
    pooled = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(seen)
    positive = Relu(pooled)
    features = Flatten(positive)
    scores = Gemm<transB = 1>(features, weights, biases)
}"""


def trained_model() -> onnx.ModelProto:
    """What the owner of the model did last year, on images of its own."""
    digits = load_digits()
    images = torch.from_numpy(digits.images[TRAINING] / 16).float().unsqueeze(1)
    labels = torch.from_numpy(digits.target[TRAINING])
    torch.manual_seed(7)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 6, kernel_size=3, padding=1),
        torch.nn.MaxPool2d(2),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(96, 10),
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
    model = onnx.parser.parse_model(GRAPH)
    names = ["kernels", "shifts", "weights", "biases"]
    model.graph.initializer.extend(
        numpy_helper.from_array(parameter.detach().numpy(), name)
        for name, parameter in zip(names, network.parameters(), strict=True)
    )
    return model


crypten.init()
rank = comm.get().get_rank()

# The file is at its owner only. The others learn the graph, and hold shares of the weights.
own_model = None
if rank == MODEL_OWNER:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digits.onnx"
        onnx.save(trained_model(), path)
        own_model = crypten.nn.from_onnx(path)
model = crypten.load_from_party(preloaded=own_model, src=MODEL_OWNER)

own_images = None
if rank == IMAGE_OWNER:
    own_images = torch.from_numpy(load_digits().images[IMAGES]).float().unsqueeze(1)
images = crypten.cryptensor(own_images, src=IMAGE_OWNER, broadcast_size=True)

digits = model(images).argmax(dim=1, one_hot=False)
predicted = digits.get_plain_text(dst=IMAGE_OWNER)

if rank != IMAGE_OWNER:
    assert predicted is None
    print("the predictions are not mine to see")
    sys.exit(0)

# The check, which only works because this model can be trained again: onnx's own evaluator.
assert predicted is not None
assert own_images is not None
(scores,) = onnx.reference.ReferenceEvaluator(trained_model()).run(None, {"pixels": own_images.numpy()})
agreeing = int((predicted.long().numpy() == scores.argmax(1)).sum())
right = int((predicted.long().numpy() == load_digits().target[IMAGES]).sum())
print(f"{right} of {len(predicted)} predictions are right")
print(f"{agreeing} of {len(predicted)} predictions are those of plain inference")
if agreeing < len(predicted):
    sys.exit("encrypted inference is not plain inference")

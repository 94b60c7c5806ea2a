"""Models under CrypTen's names: converted from torch, trained, kept encrypted.

In reading order: `kinds` and `shapes` (what plain and encrypted tensors share), `functions` and `layers`
(layers as functions of either), `operators` (torch's operators by name), `program` (an architecture as
a list of steps), `converted` (the module that runs it), `convert` (from a torch model, checked), `onnx`
(from an ONNX file); `losses`, `modules`, `optimisers`; `keys`, `storage` and `parties` (saving and loading);
`install` puts them into `crypten.nn`, `crypten.optim` and `crypten`.
"""

"""Models from ONNX files: the graph as a torch module, which is then converted as any other.

In reading order: `call` (a node with the values of its inputs), `sizes` (what is done with shapes),
`layers` and `operators` (each ONNX operator in torch's functions), `graph` (the module), `file` (reading,
checking, converting).
"""

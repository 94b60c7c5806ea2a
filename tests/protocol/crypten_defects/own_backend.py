"""One process of CrypTen's own backend: runs the checks of a module, and says how each ended.

    RANK=0 WORLD_SIZE=2 RENDEZVOUS=file:///... python -m tests.protocol.crypten_defects.own_backend MODULE

CrypTen is as it is, but for what torch has moved since: the registry of its ONNX exporter, and the exporter
itself, which is no longer the default.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import warnings
from typing import Any

import torch

ANSWER = "@check "
"""Before each answer, among whatever libraries print."""


def import_crypten() -> Any:
    """CrypTen's package, unmended."""
    moved = "torch.onnx._internal.registration"
    with contextlib.suppress(ImportError):  # an older torch has it where CrypTen looks
        sys.modules[moved] = importlib.import_module("torch.onnx._internal.torchscript_exporter.registration")
    import crypten

    export = torch.onnx.export

    def as_it_was(*args: Any, operator_export_type: Any = None, **kwargs: Any) -> Any:
        return export(*args, dynamo=False, **kwargs)

    torch.onnx.export = as_it_was
    return crypten


def main(module: str) -> None:
    """Runs the checks in order; a failure of one does not keep the next from running."""
    crypten = import_crypten()
    crypten.init()
    importlib.import_module(module)
    checks = importlib.import_module("tests.protocol.crypten_defects.checks").CHECKS[module]
    for name, check in checks.items():
        if check.there is None:
            continue
        ended = "passed"
        try:
            check.body()
        except BaseException as error:  # noqa: BLE001 - pytest's own failures are no Exceptions
            ended = f"{type(error).__name__}: {error}"[:400]
        print(ANSWER + json.dumps([name, ended]), flush=True)
    crypten.communicator.get().barrier()
    os._exit(0)  # without taking gloo down, which aborts the process now and then


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(sys.argv[1])

"""A member in a process of its own, to be killed or stopped: FOLDER NAME, then addresses on stdin."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from mpcpriv.transport.base import Limits
from mpcpriv.transport.grpc import GrpcServerPort
from mpcpriv.transport.tls import load_certificate, load_identity

NAMES = ("alice", "bob", "carol")
JOB = b"sixteen bytes ok"


def main(folder: Path, name: str) -> None:
    members = [load_certificate(folder / f"{member}.crt", party=member) for member in NAMES]
    identity = load_identity(folder / f"{name}.crt", folder / f"{name}.key", party=name)
    port = GrpcServerPort.bind(identity, members, "127.0.0.1:0")
    print(port.port, flush=True)
    transport = port.connect(sys.stdin.readline().split(), job=JOB, limits=Limits(connect=30))
    for other in range(len(NAMES)):
        if other != transport.rank:
            transport.send(other, b"up")
    time.sleep(60)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])

"""Threads that gRPC's server runs its handlers on, and that never keep the interpreter alive."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class DaemonExecutor(ThreadPoolExecutor):
    """Starts a daemon thread for each piece of work.

    The standard pool joins its threads when the interpreter ends: a handler that waits for a silent
    peer would keep a finished program from exiting. The number of threads is bounded by whoever submits
    (gRPC's `maximum_concurrent_rpcs`).
    """

    def __init__(self, name: str) -> None:
        super().__init__(max_workers=1, thread_name_prefix=name)
        self._name = name

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[Any] = Future()

        def work() -> None:
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 -- a future keeps it for whoever asks
                future.set_exception(error)

        threading.Thread(target=work, name=self._name, daemon=True).start()
        return future

"""What holds for all tests."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

from tests.databases import server, url

__all__ = ["server", "url"]  # fixtures

# A loaded machine is slow, not wrong. Where a change is judged, the same examples are tried each time;
# at a desk, new ones.
settings.register_profile("desk", deadline=None)
settings.register_profile("judged", deadline=None, derandomize=True)
settings.load_profile("judged" if os.environ.get("CI") else "desk")

# Before numpy is loaded. Several processes test at once: threads of BLAS in each only spin for cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@pytest.fixture
def warm_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this process launches is forked with the engine loaded: seconds less for each member."""
    from mpcpriv.party import process
    from tests.integration import warm

    monkeypatch.setenv(warm.ADDRESS, warm.server("engine"))
    monkeypatch.setattr(process, "subprocess", warm.Subprocess)

"""Jobs as TOML files.

agreement = "breast-cancer-study"
version = 1
analysis = "logistic-regression"
purpose = "research"
submitter = "alice"                     # may be left out, as may created, expires and nonce

[[inputs]]
dataset = "alice-patients"
columns = ["age", "radius", "malignant"]

[parameters]
steps = 100

[release]
recipients = ["alice"]
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from mpcpriv.documents import read_file, write_new
from mpcpriv.errors import UsageError
from mpcpriv.job.model import Job

LIFETIME: Final = timedelta(days=1)
"""How long a job may wait for its decisions when its file does not say."""


def parse_job(data: bytes, *, submitter: str, now: datetime) -> Job:
    """A job from TOML; see `read_job`.

    Raises:
        UsageError: not TOML or not a job; the message lists all that is wrong.
    """
    created = now.astimezone(UTC).replace(microsecond=0)
    return Job.from_toml(
        data,
        submitter=submitter,
        created=created,
        expires=created + LIFETIME,
        nonce=secrets.token_hex(16),
    )


def read_job(path: Path, *, submitter: str, now: datetime) -> Job:
    """A job from a TOML file.

    Args:
        path: the file.
        submitter: who asks, where the file does not say.
        now: with a time zone; a job that does not say when it was created was created now, expires after
            a day, and gets a nonce of its own each time it is read.

    Raises:
        UsageError: the file cannot be read or is no job; the message lists all that is wrong.
    """
    data = read_file(path, "job")
    try:
        return parse_job(data, submitter=submitter, now=now)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def write_job(job: Job, path: Path) -> None:
    """Writes all of a job to a new TOML file.

    Raises:
        UsageError: the file is there already, or cannot be written.
    """
    write_new(path, job.to_toml())

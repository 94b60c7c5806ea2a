"""What an analysis is. No torch here: whoever lists analyses need not wait for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np

    from mpcpriv.analyses.table import Table
    from mpcpriv.documents import Document
    from mpcpriv.engine.tensor import SharedTensor
    from mpcpriv.job.model import Job
    from mpcpriv.privacy.mechanism import Noise
    from mpcpriv.privacy.training import Composition

Plain = int | float | str | list[int] | list[float] | list[str]
"""What a result is made of."""


@dataclass(frozen=True)
class Context:
    """What an analysis may know of the computation; there is no way to open anything in it.

    Attributes:
        parties: the computing parties, by rank.
        rank: this party's.
        steps: `mpcpriv.steps`: 0 .. n - 1, for a loop that all parties run alike.
        noise: what each party adds in each step of an analysis that declares its `composition`; else None.
    """

    parties: tuple[str, ...]
    rank: int
    steps: Callable[[int, str], Iterator[int]]
    noise: Noise | None = None


@dataclass(frozen=True)
class Output:
    """A shared result, and what the recipients make of it once it is open.

    Attributes:
        shared: a vector, opened to the recipients.
        read: the opened numbers, float64, in the units of the data; a function of them and of what is public.
    """

    shared: SharedTensor
    read: Callable[[np.ndarray], Plain]


Outputs = Mapping[str, Output | Plain]
"""By name: a shared result, or something that is public anyway, such as the number of rows."""


class Analysis(Protocol):
    """A plug-in.

    Attributes:
        name: as jobs and agreements say it.
        title: what it does, in one line.
        text: how, with units, limits and source, for those who decide whether to agree to it.
        parameters: what it can be told.
        example: a job of it: inputs and parameters, as a job's TOML file says them.
    """

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def parameters(self) -> type[Document]: ...
    @property
    def example(self) -> str: ...

    def outputs(self, job: Job) -> Mapping[str, str]:
        """By name, what the recipients learn, in plain words."""

    def run(self, ctx: Context, inputs: Mapping[str, Table], parameters: Any) -> Outputs:
        """Computes, on shares; all parties run it alike, and nothing is opened.

        Args:
            ctx: who computes.
            inputs: by data set, in the order of the job.
            parameters: an instance of `parameters`.

        Raises:
            UsageError: the inputs are not such as it needs; raised before anything is sent.
            RangeError: within the agreed bounds, a value could leave the ring.
        """


class Private(Analysis, Protocol):
    """An analysis that adds the noise itself, in several steps: what it returns is private already."""

    def composition(self, parameters: Any, rows: int) -> Composition:
        """How its steps add up; `Context.noise` is chosen by it.

        Args:
            parameters: an instance of `parameters`.
            rows: of all data sets together.
        """

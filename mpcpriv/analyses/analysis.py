"""What an analysis is. No torch here: whoever lists analyses need not wait for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np

    from mpcpriv.agreement.model import ColumnTerms
    from mpcpriv.analyses.feature import Feature
    from mpcpriv.analyses.outline import Outline
    from mpcpriv.analyses.query import Query
    from mpcpriv.analyses.shown import Shown
    from mpcpriv.analyses.table import Table
    from mpcpriv.analyses.told import Cells
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
        noise: what each party adds in each step of an analysis that is `Perturbed`; else None.
        smallest_cell: the smallest count of rows that the agreement lets be shown without noise.
        present: (rows,), of an analysis `OverSecretRows`: 1 where a row is one of those in common, shared;
            else None, and all are.
    """

    parties: tuple[str, ...]
    rank: int
    steps: Callable[[int, str], Iterator[int]]
    noise: Noise | None = None
    smallest_cell: int = 1
    present: SharedTensor | None = None


@dataclass(frozen=True)
class Asked:
    """What is public of a job that is computed: all that reading its result takes, and no share.

    Attributes:
        parameters: an instance of the analysis's `parameters`.
        tables: by data set, in the order of the job, what is public of it.
        epsilon: of differential privacy, what the job asks for; None where it asks for none.
        count: how many rows `run` was given, where nobody knew which of them are in common; else None.
        noise: where a result is read that is `Perturbed`, `Context.noise`; else None.
    """

    parameters: Any
    tables: Mapping[str, Outline]
    epsilon: float | None = None
    count: int | None = None
    noise: Noise | None = None

    @property
    def noised(self) -> bool:
        """Whether the result is released with differential privacy."""
        return self.epsilon is not None


Opened = Mapping[str, "np.ndarray"]
"""By name, what was opened: vectors of float64, as they were shared."""

Answer = Mapping[str, Plain]
"""By name, what the recipients are told."""


class Analysis(Protocol):
    """A plug-in: `Computed`, `Private`, or both, or `Finished`; or `Perturbed`.

    A daemon imports it to read results: what takes long to import (torch, the engine) is imported in `run`.

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


@runtime_checkable
class Computed(Analysis, Protocol):
    """An analysis that computes on shares."""

    def run(self, ctx: Context, inputs: Mapping[str, Table], parameters: Any) -> Mapping[str, SharedTensor]:
        """Computes; all parties run it alike, and nothing is opened.

        Args:
            ctx: who computes.
            inputs: by data set, in the order of the job.
            parameters: an instance of `parameters`.

        Returns:
            by name, the vectors that are opened to the recipients.

        Raises:
            UsageError: the inputs are not such as it needs; raised before anything is sent.
            RangeError: within the agreed bounds, a value could leave the ring.
        """

    def read(self, asked: Asked, opened: Opened) -> Answer:
        """What the recipients are told: a function of the opened numbers and of what is public.

        Args:
            asked: what is public.
            opened: what `run` returned, opened.
        """


@runtime_checkable
class Derived(Computed, Protocol):
    """An analysis that does not compute on the columns of the job, but on what their owners make of them.

    `run` is given tables of these features in the place of the columns; `read` is told of the columns.
    """

    def features(self, table: Outline, parameters: Any) -> Sequence[Feature]:
        """What the owner of a table makes of it.

        Args:
            table: what is public of it. Where columns are split, it has some of the job's columns only.
            parameters: an instance of `parameters`.

        Raises:
            UsageError: the columns are not such as it needs.
        """


@runtime_checkable
class Private(Analysis, Protocol):
    """An analysis whose result is a sum over rows: it can be released with differential privacy.

    The same sum is what is released without noise, unless it is also `Computed` and columns are split: then
    it is computed on shares.
    """

    def query(self, asked: Asked) -> Query:
        """The sum.

        Raises:
            UsageError: of such inputs there is none.
            Unsupported: it cannot be released with differential privacy.
        """


@runtime_checkable
class Finished(Private, Computed, Protocol):
    """An analysis that does not open its sums, but what it makes of them on shares.

    With differential privacy the sums are released with their noise, as of any that is `Private`.
    """

    def finish(self, ctx: Context, sums: SharedTensor, asked: Asked) -> Mapping[str, SharedTensor]:
        """Computes as `run` does, but from the sums of `query`.

        Args:
            ctx: who computes.
            sums: (d,), of magnitude below 2^30.
            asked: what is public.

        Returns:
            by name, the vectors that are opened to the recipients; `read` is given them.
        """


@runtime_checkable
class ByColumn(Private, Protocol):
    """An analysis each of whose sums is about one column: it is summed where columns are split, too."""

    by_column: Literal[True]


@runtime_checkable
class TakesMissing(Analysis, Protocol):
    """An analysis that knows what to do with missing values; of any other, columns with them are refused.

    A missing number is NaN; a missing category or boolean has the code behind the last one.
    """

    takes_missing: Literal[True]


@runtime_checkable
class OverSecretRows(Computed, Protocol):
    """An analysis that can be of rows in common of which nobody knows which they are, or how many.

    `run` is given tables with more rows: others are rows of zeros (of what is shared, not of the data) and
    must not count, and `Context.present` says which. How many rows there are in truth is opened besides what
    it returns, and `read` is told that number; it refuses what is too few.
    """

    over_secret_rows: Literal[True]


@runtime_checkable
class TellsCells(Analysis, Protocol):
    """An analysis whose answer tells counts of rows though it is no table, as the mean of yes-or-nos does.

    Without noise nothing is opened of a result that would tell one below the agreement's smallest cell.
    """

    def cells(self, columns: Mapping[str, ColumnTerms], parameters: Any) -> Sequence[Cells]:
        """The tables all of whose cells the answer tells; see `mpcpriv.analyses.told`.

        Args:
            columns: by name, those of all tables together.
            parameters: an instance of `parameters`.

        Raises:
            Unsupported: it tells cells of these columns that cannot be counted beforehand.
        """


@runtime_checkable
class Showing(Analysis, Protocol):
    """An analysis that says how people would rather see its answer."""

    def show(self, answer: Answer) -> Sequence[Shown]:
        """Tables and plots, in the order in which they are read.

        Args:
            answer: as `read` returned it, or as it came back from JSON.
        """


@runtime_checkable
class Perturbed(Computed, Protocol):
    """An analysis that adds noise in each of several steps: what `run` returns is private already.

    It is not released without noise.
    """

    def composition(self, parameters: Any) -> Composition:
        """How its steps add up; `Context.noise` is chosen by it.

        Args:
            parameters: an instance of `parameters`.
        """

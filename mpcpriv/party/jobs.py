"""A party's part in a job: admits it once more, shares its columns, runs the analysis, seals its share."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from mpcpriv import analyses
from mpcpriv.agreement.admit import AdmittedJob, LedgerView, Refusal, admit
from mpcpriv.agreement.model import Dataset
from mpcpriv.agreement.signed import SignedAgreement
from mpcpriv.data.declared import Source
from mpcpriv.errors import Desynchronised, RangeError, UsageError
from mpcpriv.job.signed import SignedJob
from mpcpriv.party.aligning import MOST_ROWS, Keyed, Unaligned, installed, permitted
from mpcpriv.transport.base import Transport

if TYPE_CHECKING:
    import torch

    from mpcpriv.analyses.query import Query
    from mpcpriv.data.held import Held
    from mpcpriv.engine.loop import Watcher
    from mpcpriv.engine.session import Session
    from mpcpriv.privacy.mechanism import Noise
    from mpcpriv.release import Cohort, Layout, Sealed, Unseen
    from mpcpriv.release.withheld import Watch

MOST_COUNTED = 1 << 30
"""Of so many rows, counts are compared on shares."""
SALT_BYTES = 32


@dataclass(frozen=True)
class RunReport:
    """What a computing party has when its worker has ended.

    Attributes:
        rows: by data set, how many rows take part; told by the owners.
        layout: what the share holds.
        share: this party's share of the result, `release.Sealed.content`; it may leave once all parties have
            committed to theirs.
        transcript: SHA-256 of what was done, in hexadecimal; the same at all parties.
        input_digest: SHA-256 over `input_salt` and this party's columns. With the salt it proves later which
            table was used; shown without the salt it tells nobody anything.
        input_salt: 32 bytes in hexadecimal; for this party alone.
        people: where nobody learns whom the data sets have in common, the digest of this party's keys
            (`Unaligned.people`), if it has a table; for this party alone.
        rounds: times that this party waited for the others.
        sent: bytes to the other parties.
        dealt: bytes of correlated randomness from the dealer.
        seconds: from joining to the end.
    """

    rows: Mapping[str, int]
    layout: tuple[Layout, ...]
    share: bytes = field(repr=False)
    transcript: str
    input_digest: str
    input_salt: str = field(repr=False)
    rounds: int
    sent: int
    dealt: int
    seconds: float
    people: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class JobProgram:
    """What a worker process of a computing party runs.

    Attributes:
        agreement, job: the signed documents, as bytes.
        me: this party's name.
        data: by data set of this party, its table.
        received: when the job first came to this party's daemon, by its clock.
        newest: the newest version of the agreement that the daemon knows.
        releases: by data set, how many results were released before.
        earlier: `release.cohorts` of each release without noise before, under this agreement.
        unseen: the others, which were about rows that nobody knows.
    """

    agreement: bytes
    job: bytes
    me: str
    data: Mapping[str, Source]
    received: datetime
    newest: int
    releases: Mapping[str, int]
    earlier: Sequence[Cohort] = ()
    unseen: Sequence[Unseen] = ()

    def watch(self, watcher: Watcher) -> None:
        """Has `watcher` told of progress, in the place of stderr."""
        object.__setattr__(self, "_watcher", watcher)

    def load(self) -> None:
        """Imports and reads all that may fail for local reasons.

        Raises:
            UsageError: the job is refused, the analysis is not installed or is another, or the data does not
                hold what was agreed.
        """
        from mpcpriv import engine

        engine.prepare()
        admitted = self.admit()
        analysis = analyses.find(admitted.job.analysis)
        own = _own(admitted, analysis, self.me, self.data)
        object.__setattr__(self, "_prepared", (admitted, analysis, own))

    def admit(self) -> AdmittedJob:
        """The job, held against the agreement once more: a worker takes nobody's word for it.

        Raises:
            UsageError: refused, with all reasons.
        """
        verdict = admit(
            SignedAgreement.from_bytes(self.agreement),
            SignedJob.from_bytes(self.job),
            now=datetime.now(UTC),
            received=self.received,
            me=self.me,
            ledger=LedgerView(releases=self.releases),
            newest=self.newest,
            analyses=analyses.installed(),
            aligns=installed(),
        )
        if isinstance(verdict, Refusal):
            raise UsageError(f"the job is refused: {'; '.join(verdict.reasons)}")
        return verdict

    def run(self, transport: Transport) -> RunReport:
        """Computes with the others.

        Raises:
            UsageError: a cohort is too small, or the tables do not go together.
            PeerError: a member failed, or runs another job.
        """
        from mpcpriv import engine

        began = time.perf_counter()
        if not hasattr(self, "_prepared"):
            self.load()
        admitted, analysis, own = self._prepared  # type: ignore[attr-defined]
        expected = (*admitted.parties, admitted.dealer)
        if tuple(map(str, transport.members)) != expected:
            raise UsageError(
                f"the members are {', '.join(transport.members)}; agreed are {', '.join(expected)}"
            )
        salt = secrets.token_bytes(SALT_BYTES)
        session = engine.join(transport)
        session.progress = getattr(self, "_watcher", session.progress)
        rows, sealed = compute(session, admitted, analysis, own, self.earlier, self.unseen)
        report = RunReport(
            rows=rows,
            layout=sealed.layout,
            share=sealed.content,
            transcript=session.transcript,
            input_digest=input_digest(own, salt),
            input_salt=salt.hex(),
            rounds=session.cost.rounds,
            sent=session.cost.sent,
            dealt=session.correlations.received,
            seconds=time.perf_counter() - began,
            people=_people(admitted, own),
        )
        session.close()
        return report


def compute(
    session: Session,
    admitted: AdmittedJob,
    analysis: analyses.Analysis,
    own: Mapping[str, Held | Unaligned],
    earlier: Sequence[Cohort] = (),
    unseen: Sequence[Unseen] = (),
) -> tuple[Mapping[str, int], Sealed]:
    """What all parties do alike, in a plan as in earnest.

    Where the job is aligned, the owners first find the rows that they have in common, among themselves, in 3
    rounds or 4 (`alignment.costs`). How many rows of each data set take part is told to all parties, and
    checked by all of them, before anything is shared: one round. Where nobody learns the rows in common, that
    is how many there are in all, and comes first.

    Args:
        session: of this party.
        admitted: the job.
        analysis: that it names.
        own: by data set of this party, its table: `Unaligned` where the job is aligned, else `Whole`, or any
            where the job is a sum over rows.
        earlier: `release.cohorts` of each release without noise before, under this agreement.
        unseen: the others, of which nobody knows the rows.

    Returns:
        by data set, how many rows take part; and this party's share of the result.

    Raises:
        UsageError: a cohort is too small, or the tables do not go together, or the analysis refuses them.
        Unsupported: the analysis has no such release; see `release.check`, `release.rounding`.
        PeerError: a member failed, or runs another job.
    """
    from mpcpriv.analyses.outline import together
    from mpcpriv.release import check, held_apart, seal, secret
    from mpcpriv.release.result import asked
    from mpcpriv.release.rules import summed
    from mpcpriv.release.withheld import Watch

    # Bound to every frame from here on: who runs another job, agreement or analysis is noticed at the first.
    session.note(
        f"job {admitted.job.digest()} agreement {admitted.agreement.digest()} code {admitted.terms.code}"
    )
    datasets = {one.name: one for one in admitted.agreement.datasets}
    if admitted.alignment is not None:
        permitted(admitted, analysis)
        session.note(f"alignment {admitted.alignment.name}")
    before = {name: held for name, held in own.items() if isinstance(held, Unaligned)}
    tables = {name: held for name, held in own.items() if not isinstance(held, Unaligned)}
    hidden = secret(admitted.agreement, admitted.job) is not None
    if not hidden:
        tables |= {name: held.aligned(session, admitted) for name, held in before.items()}
    rows = _rows(session, admitted, before if hidden else tables)
    for one in admitted.job.inputs:
        _enough(datasets[one.dataset], rows[one.dataset])
    if admitted.job.release.epsilon is None:
        held_apart(admitted.agreement, admitted.job, rows, _people(admitted, own), earlier, unseen)
    if hidden:
        check(admitted, analysis, min(rows.values()), rows)
        return rows, seal(session, _unseen(session, admitted, analysis, before, rows))
    public = asked(admitted, analysis, rows)
    check(admitted, analysis, together(public.tables)[0].rows, rows, earlier)
    watch = Watch(admitted, analysis, public)
    if summed(admitted, analysis):
        assert isinstance(analysis, analyses.Private)
        query = analysis.query(public)
        total = sum(rows.values())
        query.fits(total)
        outputs = _summed(session, admitted, analysis, public, query, tables, total, watch)
    else:
        assert isinstance(analysis, analyses.Computed)
        outputs = _computed(session, admitted, analysis, public, tables)
        for held in tables.values() if watch else ():
            for columns in held.batches():
                watch.see(columns)
    ranks = {name: admitted.parties.index(datasets[name].owner) for name in public.tables}
    return rows, seal(session, watch.withheld(session, outputs, public, tables, ranks))


def _computed(
    session: Session,
    admitted: AdmittedJob,
    analysis: analyses.Computed,
    public: analyses.Asked,
    own: Mapping[str, Held],
) -> dict[str, tuple[torch.Tensor, int]]:
    """This party's shares of what the analysis computes, and their fractional bits."""
    from mpcpriv.analyses.table import derived, share
    from mpcpriv.data.held import Whole
    from mpcpriv.release import noise_of_steps

    owners = {
        one.name: admitted.parties.index(one.owner)
        for one in admitted.agreement.datasets
        if one.name in public.tables
    }
    inputs = {}
    for name, outline in public.tables.items():
        held = own.get(name)
        columns = held.columns if isinstance(held, Whole) else None
        inputs[name] = share(*derived(analysis, outline, public.parameters, columns), owners[name])
    noise = noise_of_steps(admitted, analysis) if isinstance(analysis, analyses.Perturbed) else None
    session.sealed = True
    outputs = analysis.run(_context(session, admitted, noise), inputs, public.parameters)
    session.sealed = False
    return {name: (tensor.share.flatten(), tensor.bits) for name, tensor in outputs.items()}


def _unseen(
    session: Session,
    admitted: AdmittedJob,
    analysis: analyses.Analysis,
    own: Mapping[str, Unaligned],
    rows: Mapping[str, int],
) -> dict[str, tuple[torch.Tensor, int]]:
    """This party's shares of what is computed of rows in common that nobody knows."""
    from mpcpriv.alignment.secret import bins
    from mpcpriv.party.joining import join
    from mpcpriv.release import settle
    from mpcpriv.release.result import asked
    from mpcpriv.release.unseen import least
    from mpcpriv.release.withheld import Watch

    assert isinstance(analysis, analyses.OverSecretRows)
    fewest = min(rows.values())
    public = asked(admitted, analysis, dict.fromkeys(rows, bins(fewest)))
    watch = Watch(admitted, analysis, public)
    found = join(session, admitted, analysis, public, own, fewest, watch.parts(public))
    context = replace(_context(session, admitted), present=found.present)
    session.sealed = True
    outputs = analysis.run(context, found.tables, public.parameters)
    session.sealed = False
    shares = {name: (tensor.share.flatten(), tensor.bits) for name, tensor in outputs.items()}
    shares = watch.withheld_unseen(session, shares, public, found.inside)
    return settle(session, found.present, shares, least(admitted))


def _people(admitted: AdmittedJob, own: Mapping[str, Held | Unaligned]) -> str | None:
    """Digest of this party's keys, where nobody learns whom the data sets have in common."""
    from mpcpriv.release import secret

    if secret(admitted.agreement, admitted.job) is None:
        return None
    return next((one.people for one in own.values() if isinstance(one, Unaligned)), None)


def _context(session: Session, admitted: AdmittedJob, noise: Noise | None = None) -> analyses.Context:
    from mpcpriv.engine import steps

    least = admitted.agreement.privacy.smallest_cell
    return analyses.Context(tuple(admitted.parties), session.rank, steps, noise, least)


def _summed(
    session: Session,
    admitted: AdmittedJob,
    analysis: analyses.Private,
    public: analyses.Asked,
    query: Query,
    own: Mapping[str, Held],
    rows: int,
    watch: Watch,
) -> dict[str, tuple[torch.Tensor, int]]:
    """This party's share of a query: its own rows' sum, and its own noise, if any; `rows` are all owners'."""
    import torch

    from mpcpriv.release import noise_for, rounding, threshold
    from mpcpriv.release.cells import above
    from mpcpriv.release.choice import largest
    from mpcpriv.release.result import QUERY

    noise, base = noise_for(admitted, query), rounding(admitted, query)
    shown_from = threshold(query, noise)
    session.note(f"query of {query.size}, {noise!r}, shown from {shown_from}, rounded to {base}")
    # Noise is drawn before any row is looked at: how long it takes depends on what is drawn.
    total = np.zeros(query.size, dtype=np.int64) if noise is None else np.asarray(noise.share(query.size))
    for held in own.values():
        query.fits(held.rows)
        for columns in held.batches():
            total = total + query.total(columns)
            watch.see(columns)
    share = session.given(torch.from_numpy(total))
    if noise is None and isinstance(analysis, analyses.Finished):
        return _finished(session, admitted, analysis, public, share)
    least = admitted.agreement.privacy.smallest_cell
    if query.choose:
        share = largest(session, share)
    elif shown_from is not None and query.grid is not None:
        # What a party has here is its own rows' counts and noise; from here on it is a share like any other.
        share = above(session, share + session.zero_share(tuple(share.shape)), shown_from, query.grid)
    elif noise is None and query.grid is not None and (least > 1 or base is not None):
        share = _shown(session, share, query, rows, least, base)
    return {QUERY: (share, 0)}


def _finished(
    session: Session,
    admitted: AdmittedJob,
    analysis: analyses.Finished,
    public: analyses.Asked,
    share: torch.Tensor,
) -> dict[str, tuple[torch.Tensor, int]]:
    """What the analysis makes of the sums, and its fractional bits."""
    from mpcpriv.engine.encoding import FRACTIONAL_BITS
    from mpcpriv.engine.tensor import SharedTensor

    # What a party has here is its own rows' sums; from here on it is a share like any other.
    share = (share + session.zero_share(tuple(share.shape))) * 2**FRACTIONAL_BITS
    session.sealed = True
    outputs = analysis.finish(_context(session, admitted), SharedTensor.of(share), public)
    session.sealed = False
    return {name: (tensor.share.flatten(), tensor.bits) for name, tensor in outputs.items()}


def _shown(
    session: Session, share: torch.Tensor, query: Query, rows: int, least: int, base: int | None
) -> torch.Tensor:
    """The same sums, counts rounded, but for those about few rows, which are suppressed."""
    from mpcpriv.analyses.cells import suppress_groups
    from mpcpriv.engine.tensor import SharedTensor
    from mpcpriv.release.cells import rounded

    assert query.grid is not None
    if rows >= MOST_COUNTED:
        raise RangeError(f"counts of {rows} rows are suppressed or rounded up to {MOST_COUNTED - 1} only")
    # What a party has here is its own rows' sums; from here on it is a share like any other.
    share = share + session.zero_share(tuple(share.shape))
    shown = share if base is None else rounded(session, share, base * query.grid, rows * query.grid)
    if least == 1:
        return shown
    # Whether a count is small is asked of the count itself: 3 is, also where it would be shown as 5.
    table, told = (SharedTensor.of(one.reshape(query.groups or query.size, -1), 0) for one in (share, shown))
    return suppress_groups(told, least, query.grid, table[:, 0]).share.flatten()


def _rows(
    session: Session, admitted: AdmittedJob, own: Mapping[str, Held] | Mapping[str, Unaligned]
) -> dict[str, int]:
    """How many rows each data set has, from its owner."""
    import torch

    from mpcpriv.engine.communicator import Communicator

    names = [one.dataset for one in admitted.job.inputs]
    counts = [own[name].rows if name in own else 0 for name in names]
    # Public: that these are told to all parties stands in the plan and in the documentation.
    told = Communicator.get().all_gather(torch.tensor(counts, dtype=torch.int64))
    owners = {one.name: one.owner for one in admitted.agreement.datasets}
    found = {}
    for place, name in enumerate(names):
        rank = admitted.parties.index(owners[name])
        found[name] = int(told[rank][place])
        if not 0 < found[name] < MOST_ROWS:
            peer = session.parties[rank]
            raise Desynchronised(peer, f"{peer} announces {found[name]} rows of data set {name}")
    return found


def _enough(dataset: Dataset, rows: int) -> None:
    if rows < dataset.minimum_rows:
        raise UsageError(
            f"data set {dataset.name} has {rows} rows; the agreement asks for {dataset.minimum_rows} at least"
        )


def _own(
    admitted: AdmittedJob, analysis: analyses.Analysis, me: str, data: Mapping[str, Source]
) -> dict[str, Held | Unaligned]:
    """This party's tables; in memory where they are shared, and read again where they are only summed."""
    from mpcpriv.data.held import Streamed, Whole
    from mpcpriv.data.source import load
    from mpcpriv.release.rules import summed

    if admitted.alignment is not None:
        permitted(admitted, analysis)
    datasets = {one.name: one for one in admitted.agreement.datasets}
    streamed = summed(admitted, analysis)
    own: dict[str, Held | Unaligned] = {}
    for one in admitted.job.inputs:
        dataset = datasets[one.dataset]
        if dataset.owner not in admitted.parties:
            raise UsageError(
                f"data set {dataset.name}: its owner {dataset.owner} is no computing party and cannot share "
                "it; give it the role compute"
            )
        if dataset.owner == me:
            if dataset.name not in data:
                raise UsageError(
                    f"data set {dataset.name}: the configuration names no table; write it under [data]"
                )
            asked = data[dataset.name], dataset, one.columns
            if admitted.alignment is not None:
                own[dataset.name] = Keyed.read(*asked, admitted.alignment)
            else:
                own[dataset.name] = Streamed(*asked) if streamed else Whole(load(*asked))
    return own


def input_digest(own: Mapping[str, Held | Unaligned], salt: bytes) -> str:
    """SHA-256 over the salt and this party's columns: names, types, and the SHA-256 of their numbers.

    Where the job is aligned: of all rows, and of their keys.
    """
    total = hashlib.sha256(salt)
    for dataset, held in own.items():
        for name, (kind, digest) in held.digests.items():
            head = f"{dataset}\0{name}\0{kind}\0{held.rows}\0".encode()
            total.update(len(head).to_bytes(8) + head + digest)
    return total.hexdigest()

"""All that is told of one result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from mpcpriv import analyses
from mpcpriv.analyses.shown import Shown, Table
from mpcpriv.documents import write_new
from mpcpriv.errors import UsageError
from mpcpriv.job.model import Job
from mpcpriv.release.result import Result
from mpcpriv.report import words
from mpcpriv.report.display import display, tables

_MOST_NAMES: Final = 120
"""Of the bars, or of the estimates, of one plot."""


@dataclass(frozen=True)
class Report:
    """A result with where it comes from and what is promised of it.

    Attributes:
        title: what was computed, in a line.
        method: how, as its analysis explains it; empty where that is not installed here.
        job: what was asked.
        answer: by name, what the recipients were told.
        meanings: by name, what each of these is.
        shown: the tables and plots, in the order in which they are read.
        rows: by data set, how many rows it has.
        agreement: the title of the agreement.
        privacy: what is promised, a sentence each.
        not_promised: what is not.
        provenance: by name, digests in hexadecimal, and versions.
    """

    title: str
    method: str
    job: Job
    answer: Mapping[str, Any]
    meanings: Mapping[str, str]
    shown: Sequence[Shown]
    rows: Mapping[str, int]
    agreement: str
    privacy: Sequence[str]
    not_promised: Sequence[str]
    provenance: Mapping[str, str]

    @classmethod
    def of(cls, job: Job, document: Mapping[str, Any]) -> Self:
        """The report of a job's result.

        Args:
            job: what was asked.
            document: all that was released, as a daemon hands it out (`mpcpriv job result --json`).

        Raises:
            UsageError: the document is of another job.
        """
        if document["job"] != job.digest():
            raise UsageError(
                f"result: it is of job {document['job'][:8]}, and not of job {job.digest()[:8]}; "
                "fetch the job's own"
            )
        answer, statement = document["result"], document["statement"]
        try:
            analysis = analyses.find(job.analysis)
            title, method, meanings = analysis.title, analysis.text, dict(analysis.outputs(job))
        except UsageError:
            title, method, meanings = job.analysis, "", {}
        # JSON has sorted the names; the analysis tells them in the order in which they are read.
        answer = {name: answer[name] for name in sorted(answer, key=[*meanings, *answer].index)}
        agreed = statement.get("agreement", {})
        digest = Result(answer, document["job"], document["salt"], statement).digest()
        return cls(
            title=f"{job.analysis}: {title}" if title != job.analysis else title,
            method=method,
            job=job,
            answer=answer,
            meanings=meanings,
            shown=display(job.analysis, answer),
            rows=statement.get("rows", {}),
            agreement=agreed.get("title", ""),
            privacy=[*words.privacy(statement), *words.aligned(job)],
            not_promised=words.not_promised(statement),
            provenance={
                "job": document["job"],
                "result": digest,
                **({"agreement": agreed["digest"]} if "digest" in agreed else {}),
                **({"code of the analysis": statement["code"]} if "code" in statement else {}),
            },
        )

    @property
    def tables(self) -> list[Table]:
        """The tables among what is shown; all of it as tables where there is none."""
        return [one for one in self.shown if isinstance(one, Table)] or tables(self.shown)

    @property
    def plots(self) -> list[Shown]:
        """What is drawn; with very many names nobody could read it, and the tables have them all."""
        drawn = [one for one in self.shown if not isinstance(one, Table)]
        return [one for one in drawn if len(getattr(one, "names", ())) <= _MOST_NAMES]

    @property
    def facts(self) -> dict[str, str]:
        """What was asked by whom, in words."""
        job, release = self.job, self.job.release
        noise = "without noise" if release.epsilon is None else f"with noise, epsilon {release.epsilon:g}"
        if release.delta:
            noise += f", delta {release.delta:g}"
        found = {
            "job": job.digest(),
            "agreement": " ".join(filter(None, [f"{job.agreement} version {job.version}", self.agreement])),
            "asked by": f"{job.submitter}, {job.created:%Y-%m-%d %H:%M} UTC",
            "purpose": job.purpose,
            "released to": f"{', '.join(release.recipients)}, {noise}",
        }
        if job.alignment is not None:
            sets = ", ".join(one.dataset for one in job.inputs)
            found["aligned by"] = f"{job.alignment}: of the rows that are about the same people in {sets}"
        found |= {f"parameter {name}": str(value) for name, value in job.parameters.items()}
        return found

    @property
    def inputs(self) -> Table:
        """The data sets, their columns and how many rows they have."""
        return Table(
            "Inputs",
            {
                "data set": [one.dataset for one in self.job.inputs],
                "columns": [", ".join(one.columns) for one in self.job.inputs],
                "rows": [self.rows.get(one.dataset) for one in self.job.inputs],
            },
        )

    def text(self, width: int = 100) -> str:
        """For a terminal of this many letters."""
        from mpcpriv.report.text import report_text

        return report_text(self, width)

    def html(self) -> str:
        """One page that needs nothing but itself.

        Raises:
            UsageError: there are plots, and matplotlib is not installed.
        """
        from mpcpriv.report.html import report_html

        return report_html(self)

    def write_html(self, path: str | Path) -> None:
        """Writes it to a new file.

        Raises:
            UsageError: as `html`; or the file is there already, or cannot be written.
        """
        write_new(Path(path), self.html())

    def write_pdf(self, path: str | Path) -> None:
        """Writes the same as PDF to a new file.

        Raises:
            UsageError: fpdf2 or matplotlib is missing; or the file is there already, or cannot be written.
        """
        from mpcpriv.report.pdf import report_pdf

        write_new(Path(path), report_pdf(self))

    def write_csv(self, folder: str | Path) -> list[Path]:
        """Writes each table, and what is drawn as tables, to a new CSV file in a folder; see `export`.

        Raises:
            UsageError: a file is there already, or cannot be written.
        """
        from mpcpriv.report.export import write_csv

        return write_csv(tables(self.shown), Path(folder))

    def write_parquet(self, folder: str | Path) -> list[Path]:
        """The same as Parquet files.

        Raises:
            UsageError: a file is there already, or cannot be written.
        """
        from mpcpriv.report.export import write_parquet

        return write_parquet(tables(self.shown), Path(folder))

"""An agreement in plain words, for those who decide on it."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mpcpriv.agreement.model import (
    Agreement,
    AlignmentTerms,
    AnalysisTerms,
    ColumnTerms,
    Dataset,
    KeyTerms,
    Limit,
    Privacy,
)
from mpcpriv.documents import shown


def show(agreement: Agreement, console: Console | None = None) -> None:
    """Prints who may learn what, from whose data, for what, and what protects it."""
    out = console or Console(highlight=False)
    out.print(f"[bold]{escape(agreement.title)}[/]")
    out.print(f"{agreement.id}, version {agreement.version}, digest {agreement.digest()}")
    out.print(
        f"Jobs may be created from {agreement.valid_from:%Y-%m-%d %H:%M} UTC until "
        f"{agreement.valid_until:%Y-%m-%d %H:%M} UTC."
    )
    if agreement.text:
        out.print(escape(agreement.text))

    table = _table("Who takes part", "member", "what it does", "where")
    for member in agreement.members:
        table.add_row(member.name, ", ".join(_ROLES[role] for role in member.roles), escape(member.endpoint))
    out.print(table)

    table = _table("Whose data", "data set", "of", "one row is a", "columns, and what is public of them")
    for dataset in agreement.datasets:
        columns = "\n".join(_column(column) for column in dataset.columns)
        row = f"{dataset.privacy_unit}; at least {dataset.minimum_rows} rows"
        table.add_row(dataset.name, dataset.owner, row, columns)
    out.print(table)

    if agreement.alignments:
        table = _table("Whose rows are put together", "alignment", "keys, and how they are written alike")
        for one in agreement.alignments:
            keys = "\n".join(f"{name}: {', '.join(map(_key, key))}" for name, key in one.keys.items())
            table.add_row(one.name, escape(keys))
        out.print(table)

    table = _table("Who may learn what", "result", "who gets it", "who may ask", "for", "computed from")
    for terms in agreement.analyses:
        table.add_row(
            _analysis(terms),
            ", ".join(terms.recipients),
            ", ".join(terms.submitters),
            ", ".join(terms.purposes),
            "\n".join(escape(f"{name}: {', '.join(columns)}") for name, columns in terms.inputs.items()),
        )
    out.print(table)

    table = _table("For what", "purpose", "legal basis", "in words")
    for purpose in agreement.purposes:
        table.add_row(purpose.name, escape(purpose.legal_basis), escape(purpose.text))
    out.print(table)
    for sentence in promises(agreement):
        out.print(f"- {sentence}")


_ROLES = {
    "data-owner": "has data",
    "compute": "computes on shares",
    "dealer": "deals randomness, sees no data",
    "recipient": "may get results",
    "submitter": "may ask for jobs",
}


def promises(agreement: Agreement) -> list[str]:
    """What protects the rows, and what does not, one sentence each."""
    parties, dealer = agreement.parties(), agreement.dealer()
    approval = (
        "A person at each data owner approves each job."
        if agreement.approval == "steward"
        else "A job within these terms runs without anybody's approval."
    )
    return [
        "Nobody sees another member's rows: each computes on shares that look random.",
        *_alignments(agreement),
        "The recipients of a result learn it; the others learn that it was computed, and of how many rows.",
        f"This holds as long as not all of {', '.join(parties)} collude, and {dealer} with none of them.",
        "It holds for members who run the agreed protocol; a member that does not can falsify a result.",
        *_noise(agreement.privacy, agreement.datasets),
        approval,
        f"Daemons keep results for {agreement.retention_days} days, and what they wrote about jobs for good.",
    ]


def _alignments(agreement: Agreement) -> list[str]:
    owners = {dataset.name: dataset.owner for dataset in agreement.datasets}
    return [_learned(one, [owners[name] for name in one.keys]) for one in agreement.alignments or []]


def _learned(terms: AlignmentTerms, owners: list[str]) -> str:
    common = f"{terms.minimum_rows} row{'s' * (terms.minimum_rows != 1)}"
    if terms.mode == "secret":
        return (
            f"By alignment {terms.name} nobody learns whose rows {' and '.join(owners)} have in common; all "
            "members learn how many rows each has, and the recipients of a result of how many rows it is; no "
            f"identifier leaves its owner. With less than {common} in common nothing is opened, and all "
            "members learn that."
        )
    return (
        f"By alignment {terms.name} each of {', '.join(owners)} learns which of its own rows are about "
        "people whom all of them have, and how many rows each has; all members learn how many rows they have "
        f"in common; no identifier leaves its owner. With less than {common} in common nothing is computed."
    )


def _noise(privacy: Privacy, datasets: list[Dataset]) -> list[str]:
    found = []
    if privacy.unnoised:
        found.append(
            f"Results may be released without noise if they are of {privacy.minimum_cohort} rows or more; "
            f"counts below {privacy.smallest_cell} are not shown then, and neither are results of yes-or-nos "
            f"and categories that would tell one. {_exactly(privacy.rounding)}"
        )
    if privacy.mechanism != "none":
        against = "all but one" if privacy.collusion is None else str(privacy.collusion)
        found.append(
            f"Noise ({privacy.mechanism}) is added that suffices against {against} colluding members."
        )
        found += [
            f"From {one.name} at most epsilon {one.budget.epsilon:g}, delta {one.budget.delta:g} is spent in "
            f"{one.budget.period_days} days."
            for one in datasets
            if one.budget is not None
        ]
    most = "Any number of" if privacy.releases is None else f"At most {privacy.releases}"
    return [*found, f"{most} results may be released from each data set under this agreement."]


def _exactly(rounding: int | None) -> str:
    if rounding is None:
        return "Such results are exact: who knows all rows but one can compute the last one's part in them."
    return (
        f"Counts are rounded to multiples of {rounding} before anybody sees them, and no other numbers are "
        "released without noise. Rounding hides one row from most who know the others, and not from all: a "
        "count at the edge changes with it."
    )


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", show_lines=True)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _column(column: ColumnTerms) -> str:
    missing = ", or missing" if column.missing else ""
    if column.categories is not None:
        return escape(f"{column.name}: one of {', '.join(column.categories)}{missing}")
    if column.type == "boolean":
        return escape(f"{column.name}: yes or no{missing}")
    if column.type == "identifier":
        return escape(f"{column.name}: an identifier, which stays at its owner")
    return escape(f"{column.name}: {column.type} from {column.low:g} to {column.high:g}{missing}")


def _key(part: KeyTerms) -> str:
    return f"{part.column} ({', '.join(part.rules)})" if part.rules else part.column


def _analysis(terms: AnalysisTerms) -> str:
    lines = [terms.name, *(f"  {name}: {_limit(limit)}" for name, limit in terms.parameters.items())]
    return escape("\n".join(lines))


def _limit(limit: Limit) -> str:
    if limit.choices is not None:
        return " or ".join(map(shown, limit.choices))
    if limit.low is None:
        return f"at most {limit.high:g}"
    return f"at least {limit.low:g}" if limit.high is None else f"{limit.low:g} to {limit.high:g}"

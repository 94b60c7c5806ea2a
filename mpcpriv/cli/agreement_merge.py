"""`mpcpriv agreement merge`: signatures that were collected side by side, in one document."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mpcpriv.cli.agreement import Either, write


def merge(
    file: Either,
    others: Annotated[
        list[Path],
        typer.Argument(metavar="OTHER...", help="Copies that others have signed, .agreement.json."),
    ],
) -> None:
    """Add the signatures in other copies of an agreement to those in NAME.agreement.json.

        mpcpriv agreement merge study.toml from-bob/study.agreement.json from-carol/study.agreement.json

    So all members can sign at once, each a copy of the text, and need not hand one document round. Copies of
    another text are refused, and so are signatures that are not their members': nothing is written then.
    """
    from mpcpriv.agreement.signed import SUFFIX, SignedAgreement, read_signed, signed_path
    from mpcpriv.agreement.toml import read_agreement
    from mpcpriv.errors import UsageError

    target = signed_path(file)
    if file.name.endswith(SUFFIX):
        signed = read_signed(file)
    else:
        signed = SignedAgreement.unsigned(read_agreement(file))
        if target.exists():
            others = [target, *others]
    for other in others:
        try:
            signed = signed.merged(read_signed(other))
        except UsageError as error:
            raise UsageError(f"{other}: {error}") from None
    write(target, signed.to_bytes(), force=True)
    missing = ", ".join(signed.missing())
    typer.echo(
        f"{target}: signed by {', '.join(signed.signatures) or 'nobody'}; "
        f"{f'{missing} have still to sign' if missing else 'all signed'}"
    )
    typer.echo(f"digest {signed.agreement.digest()} (compare it over the telephone)")

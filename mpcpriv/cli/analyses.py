"""`mpcpriv analyses`: what can be computed, and how a job asks for it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from mpcpriv.analyses import Analysis

_WIDTH: Final = 100


def analyses(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Teach this one: parameters, what is learned by whom, an example.", show_default=False
        ),
    ] = None,
    code: Annotated[
        bool, typer.Option("--code", help="The digests of their code, which agreements name.")
    ] = False,
) -> None:
    """List the analyses that are installed here, or teach one of them."""
    # Late: an analysis imports numpy, which `--help` need not wait for.
    from mpcpriv import analyses as registry
    from mpcpriv.analyses.catalogue import grouped

    if name is not None:
        analysis = registry.find(name)
        typer.echo("\n".join(_lesson(analysis, registry.digest(name))))
        return
    installed = registry.installed()
    if code:
        for found, digest in installed.items():
            typer.echo(f"{found}  {digest}")
        return
    wide = max(map(len, installed))
    for group, members in grouped(list(installed)).items():
        typer.echo(group)
        for found in members:
            typer.echo(f"  {found:<{wide}}  {registry.find(found).title}")
        typer.echo()
    typer.echo("`mpcpriv analyses NAME` teaches one; `--code` shows the digests that agreements name.")


def _lesson(analysis: Analysis, digest: str) -> Iterator[str]:
    from mpcpriv.analyses import OverSecretRows, TellsCells
    from mpcpriv.analyses.catalogue import example, noise, parameters, splits

    yield f"{analysis.name}: {analysis.title}\n"
    yield from _wrapped(analysis.text, "")
    yield "\nParameters"
    found = parameters(analysis.parameters)
    for one in found:
        default = "must be given" if one.default is None else f"default {one.default}"
        yield from _wrapped(f"{one.name}: {one.kind}; {default}", "  ")
        yield from _wrapped(one.text, "      ")
    if not found:
        yield "  none"
    yield "\nWhat the recipients learn"
    plain, noised = (analysis.outputs(example(analysis, one)) for one in (False, True))
    for name, text in plain.items():
        yield from _wrapped(f"{name}: {text}", "  ")
    for name, text in noised.items():
        if plain.get(name) != text:
            yield from _wrapped(f"{name}, with noise: {text}", "  ")
    yield "\nWhat the others learn"
    yield from _wrapped("the job and its parameters, and how many rows each data set has", "  ")
    yield "\nDifferential privacy"
    yield from _wrapped(noise(analysis), "  ")
    if isinstance(analysis, TellsCells):
        yield "\nSmall counts"
        yield from _wrapped(
            "without noise, where sums or a model of yes-or-nos and categories would tell a count of fewer "
            "rows than the agreement's smallest cell, nothing is opened",
            "  ",
        )
    yield "\nWhat may be split between owners"
    yield from _wrapped(splits(analysis), "  ")
    if isinstance(analysis, OverSecretRows):
        yield from _wrapped('columns also where nobody learns the rows in common: mode = "secret"', "  ")
    yield "\nExample\n"
    # As a whole file: what the example leaves out, every job has.
    yield 'agreement = "study"\nversion = 1\npurpose = "research"'
    yield f'{analysis.example}release = {{ recipients = ["alice"] }}'
    yield f"\ncode {digest}"


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=f"{indent}    " if indent else "",
        break_on_hyphens=False,
    )

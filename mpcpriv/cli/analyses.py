"""`mpcpriv analyses`: what can be computed, and how a job asks for it."""

from __future__ import annotations

from typing import Annotated

import typer


def analyses(
    name: Annotated[
        str | None,
        typer.Argument(help="Explain this one: parameters, results, an example.", show_default=False),
    ] = None,
) -> None:
    """List the analyses that are installed here, with the digests of their code, which agreements name."""
    # Late: an analysis imports torch, which `--help` need not wait for.
    from mpcpriv import analyses as registry

    if name is None:
        for found, code in registry.installed().items():
            typer.echo(f"{found}\n  {registry.find(found).title}\n  code {code}")
        typer.echo("\n`mpcpriv analyses NAME` explains one.")
        return
    analysis = registry.find(name)
    typer.echo(f"{analysis.name}: {analysis.title}\n\n{analysis.text}\n\nParameters:")
    fields = analysis.parameters.model_json_schema().get("properties", {})
    for parameter, field in fields.items():
        rules = [f"{word} {field[key]:g}" for key, word in _RULES.items() if key in field]
        default = f"default {field['default']}" if "default" in field else "must be given"
        typer.echo(f"  {parameter}: {', '.join([field.get('type', 'a value'), *rules, default])}")
    if not fields:
        typer.echo("  none")
    typer.echo(f"\nExample, of a job's TOML file:\n\n{analysis.example}\ncode {registry.digest(name)}")


_RULES = {"minimum": "at least", "maximum": "at most"}

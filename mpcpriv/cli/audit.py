"""`mpcpriv audit`: what a member's log tells, and whether it is what was written."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from mpcpriv.errors import UsageError

if TYPE_CHECKING:
    from mpcpriv.audit.entry import Entry

audit = typer.Typer(
    name="audit",
    no_args_is_help=True,
    help="What a member did and saw: show its log, and verify that it is what was written.",
)

_SHORT: Final = 12

_File = Annotated[Path | None, typer.Argument(help="The log, JSON lines.", show_default=False)]
_Config = Annotated[
    Path | None,
    typer.Option("--config", help="The party.toml of the log's owner, in place of FILE.", show_default=False),
]


@audit.command()
def show(
    file: _File = None,
    config: _Config = None,
    job: Annotated[
        str | None,
        typer.Option("--job", help="Only of this job: its digest, or how it begins.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The entries as they stand in the log.")] = False,
) -> None:
    """Show a log, oldest entry first. It is shown as it is; `audit verify` says whether to believe it."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from mpcpriv.audit.entry import Entry
    from mpcpriv.audit.verify import read

    content = read(_log(file, config))
    table = Table(show_edge=False, pad_edge=False)
    for column in ("entry", "time (UTC)", "event", "job", "facts"):
        table.add_column(column, overflow="fold", no_wrap=column != "facts")
    for number, entry in enumerate(content.lines, start=1):
        if not isinstance(entry, Entry):
            typer.echo(f"line {number} is no entry: {entry}", err=True)
            continue
        of_job = str(getattr(entry.facts, "job", ""))
        if job is not None and not (of_job and of_job.startswith(job.lower())):
            continue
        if as_json:
            typer.echo(entry.line(), nl=False)
        else:
            cells = (
                str(entry.seq),
                f"{entry.time:%Y-%m-%d %H:%M:%S}",
                entry.event,
                of_job[:_SHORT],
                _told(entry),
            )
            table.add_row(*map(Text, cells))
    if not as_json:
        Console(highlight=False).print(table)


@audit.command()
def verify(
    file: _File = None,
    config: _Config = None,
    key: Annotated[
        str | None,
        typer.Option(
            "--key", help="The owner's public signing key: base64, or a PEM file.", show_default=False
        ),
    ] = None,
    owner: Annotated[
        str | None, typer.Option("--owner", help="Whose log it should be.", show_default=False)
    ] = None,
    peer: Annotated[
        list[Path] | None,
        typer.Option("--peer", help="A peer's log, no newer than FILE; repeat.", show_default=False),
    ] = None,
    peer_key: Annotated[
        list[str] | None,
        typer.Option("--peer-key", help="NAME=KEY: a peer's public signing key; repeat.", show_default=False),
    ] = None,
    agreement: Annotated[
        Path | None,
        typer.Option("--agreement", help="An agreement: its members' names and keys.", show_default=False),
    ] = None,
) -> None:
    """Find any edit, deletion or reordering in a log; with its peers' logs also a cut end or a backup.

        mpcpriv audit verify audit.jsonl --key KEY --peer bob.jsonl --peer-key bob=KEY

    The exit status is 1 when anything is wrong, and all of it is listed.
    """
    from mpcpriv.audit.verify import countersigned, read
    from mpcpriv.audit.verify import verify as problems_of

    path, others = _log(file, config), peer or []
    keys = _agreed(agreement) if agreement else {}
    for named in peer_key or []:
        name, given, text = named.partition("=")
        if not given:
            raise UsageError(f"--peer-key {named}: write it as NAME=KEY")
        keys[name] = _public(text)
    if config is not None:
        party = _party(config)
        owner = owner or party.get("name")
        key = key or str(config.parent / party.get("signing_key", "signing.key"))
    if key is None and owner in keys:
        key = keys[str(owner)]
    if key is None:
        raise UsageError(
            "audit verify: the owner's signing key is missing; give --key KEY or --config party.toml"
        )
    found = problems_of(path, _public(key), keys, others, owner=owner)
    for problem in found:
        typer.echo(f"{path}: {problem}")
    if found:
        raise typer.Exit(1)
    last = len(read(path).entries) - 1
    typer.echo(f"{path}: entries 0 to {last} are as they were written")
    reached = countersigned(path, keys, others)
    for name, seq in sorted(reached.items()):
        typer.echo(f"{path}: {name} has countersigned up to entry {seq}")
    if not others:
        typer.echo(
            f"{path}: without a peer's log (--peer) nobody can say whether entries are missing at the end"
        )
    elif (most := max(reached.values(), default=-1)) < last:
        typer.echo(f"{path}: for entries {most + 1} to {last} there is the owner's word only")


@audit.command()
def acknowledge(
    config: Annotated[Path, typer.Option("--config", help="The party.toml of the log's owner.")],
    why: Annotated[str, typer.Option("--why", help="How it came; the log keeps this sentence.")],
) -> None:
    """Record that a log, or the daemon's database, was lost or is an old copy, and let the daemon start.

        mpcpriv audit acknowledge --config party.toml --why "the disk failed on 3 March; copy of 2 March"

    A daemon does not start on a log that is not the one it wrote, nor with a database that is older than its
    log. Put the newest ones back if you have them. What this member said in what was lost, its peers still
    hold, and `audit verify` against their logs goes on finding it.
    """
    from mpcpriv.audit.log import AuditLog
    from mpcpriv.party.config import read_party
    from mpcpriv.party.desk import plain
    from mpcpriv.party.state import State

    if not why.strip():
        raise UsageError("--why: empty; say how the loss came")
    party = read_party(config)
    if party.daemon is None:
        raise UsageError(
            f"{config}: [daemon]: missing; this party has no daemon that could have lost anything"
        )
    state = State(party.daemon.state)
    try:
        key = party.signing_key()
        with AuditLog(party.daemon.audit, key, party.name, state, acknowledged=plain(why)) as log:
            typer.echo(f"{log.path}: {log.loss or 'the log and the database are of one time'}")
            typer.echo(f"{log.path}: recorded as entry {log.head().seq}; the daemon starts again")
    finally:
        state.close()


def _told(entry: Entry) -> str:
    facts = entry.facts.model_dump(mode="json", exclude_none=True, exclude={"job"})
    return "; ".join(f"{name} {_short(value)}" for name, value in facts.items() if value not in ([], ""))


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_short(part)}" for name, part in value.items() if name != "signature")
    if isinstance(value, list):
        return ", ".join(map(_short, value))
    text = str(value)
    digest = len(text) == 64 and all(letter in "0123456789abcdef" for letter in text)
    return text[:_SHORT] if digest else text


def _log(file: Path | None, config: Path | None) -> Path:
    if file is not None:
        return file
    if config is None:
        raise UsageError("which log? name the file, or its owner's --config party.toml")
    daemon = _party(config).get("daemon", {})
    return config.parent / str(
        daemon.get("audit", "audit.jsonl") if isinstance(daemon, dict) else "audit.jsonl"
    )


def _party(path: Path) -> dict[str, Any]:
    from mpcpriv.documents import parse_toml

    return parse_toml(_text(path).encode(), str(path))


def _public(text: str) -> str:
    """A public key given as base64 or as the name of a PEM file, of either half."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

    from mpcpriv.documents import public_key

    if len(text) == 44 and text.endswith("=") and not Path(text).exists():
        return text
    pem = _text(Path(text)).encode()
    try:
        if b"PRIVATE KEY" in pem:
            key: object = serialization.load_pem_private_key(pem, None)
        else:
            key = serialization.load_pem_public_key(pem)
    except (ValueError, TypeError):
        raise UsageError(f"{text}: no PEM file of a key") from None
    if not isinstance(key, Ed25519PrivateKey | Ed25519PublicKey):
        raise UsageError(f"{text}: not an Ed25519 key")
    return public_key(key)


def _agreed(path: Path) -> dict[str, str]:
    """The members of an agreement and their keys. Whether all have signed it, `agreement verify` says."""
    text = _text(path)
    try:
        content = json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
        members = content.get("agreement", content)["members"]
        return {str(member["name"]): str(member["signing_key"]) for member in members}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UsageError(f"{path}: no agreement with members, names and signing keys") from None


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not text") from None

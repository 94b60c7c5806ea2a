"""`mpcpriv agreement`: write, check, sign, verify, show and export a data-sharing agreement."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from mpcpriv.errors import UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from mpcpriv.agreement.model import Agreement
    from mpcpriv.agreement.template import Candidate

commands = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""Write, check, sign and explain a data-sharing agreement.

    An agreement says who may compute what on whose data, for what, and who gets the result. People write it
    as TOML; each member signs it; then each member's daemon holds every job against its own copy.

        mpcpriv agreement new study.toml --party parties/alice --party parties/bob --party parties/dealer

        mpcpriv agreement check study.toml

        mpcpriv agreement sign study.toml --config parties/alice/party.toml

        mpcpriv agreement verify study.toml
    """,
)

File = Annotated[Path, typer.Argument(help="The agreement, TOML.", show_default=False)]
Either = Annotated[
    Path, typer.Argument(help="The agreement: its TOML, or its .agreement.json.", show_default=False)
]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]

_PUBLIC: Final = "signing.pub"


@commands.command()
def new(
    file: Annotated[Path, typer.Argument(help="Where the agreement goes.", show_default=False)],
    party: Annotated[
        list[Path] | None,
        typer.Option(
            "--party",
            help="A folder that `mpcpriv init` made, for each member in rank order; of another "
            "organisation's it needs only tls.crt, and the printed signing key in signing.pub.",
            show_default=False,
        ),
    ] = None,
    from_odrl: Annotated[
        Path | None,
        typer.Option("--from-odrl", help="Take it from this ODRL policy instead.", show_default=False),
    ] = None,
    force: Force = False,
) -> None:
    """Begin an agreement: a TOML file in which every line is explained.

    With --party its members are filled in, and it is valid as it stands; change the data sets, the analyses
    and their limits to yours. The member called "dealer" gets that role.
    """
    from mpcpriv import analyses
    from mpcpriv.agreement.odrl import decode_odrl
    from mpcpriv.agreement.template import template
    from mpcpriv.documents import read_file

    if from_odrl is not None:
        if party:
            raise UsageError("--party: the members are in the ODRL policy; leave --party or --from-odrl out")
        text = decode_odrl(read_file(from_odrl, "ODRL policy")).to_toml()
    else:
        name = "".join(one if one.isalnum() and one.isascii() else "-" for one in file.stem.lower())
        name = name if name[:1].isalpha() else f"agreement-{name}"
        text = template(
            name[:63],
            now=datetime.now(UTC),
            members=[_candidate(one) for one in party or []],
            code=analyses.installed(),
        )
    write(file, text.encode(), force=force)
    typer.echo(f"{file}: written; edit it, then run `mpcpriv agreement check {file}`")


@commands.command()
def check(file: File) -> None:
    """List everything that is wrong with an agreement: the field, its value, the rule, the way out.

    The exit status is 0 when nothing is, and 2 otherwise. A certificate that ends before the agreement does
    is a warning: the agreement is as good as over on that day.
    """
    from mpcpriv.agreement.certificates import outlived
    from mpcpriv.agreement.toml import read_agreement

    agreement = read_agreement(file)
    typer.echo(f"{file}: nothing is wrong with it")
    typer.echo(f"{agreement.id} version {agreement.version}, digest {agreement.digest()}")
    for warning in outlived(agreement):
        typer.echo(f"mpcpriv: warning: {warning}", err=True)


@commands.command()
def sign(
    file: File,
    config: Annotated[Path, typer.Option("--config", help="The signing member's party.toml.")],
    force: Annotated[
        bool,
        typer.Option("--force", help="Drop signatures for another text of this agreement, and begin anew."),
    ] = False,
) -> None:
    """Sign an agreement as one member; the signature is added to those in NAME.agreement.json beside it.

        mpcpriv agreement sign study.toml --config parties/alice/party.toml

    Read `mpcpriv agreement show study.toml` first. It is refused when the agreement is not valid, the party
    is no member, or the agreement has another key for it.
    """
    from mpcpriv.agreement.signed import SignedAgreement, read_signed, signed_path
    from mpcpriv.agreement.toml import read_agreement

    agreement = read_agreement(file)
    target = signed_path(file)
    signed = SignedAgreement.unsigned(agreement)
    if target.exists():
        before = read_signed(target) if not force else signed
        if before.agreement != agreement and not force:
            names = ", ".join(before.signatures) or "nobody"
            raise UsageError(
                f"{target}: signed by {names}, but for another text than {file} holds now; "
                "restore that text, or begin anew with --force"
            )
        signed = before
    name, key = _member(config)
    signed = signed.signed_by(name, key)
    write(target, signed.to_bytes(), force=True)
    missing = ", ".join(signed.missing())
    typer.echo(f"{target}: signed by {name}; {f'{missing} have still to sign' if missing else 'all signed'}")
    typer.echo(f"digest {agreement.digest()} (compare it over the telephone)")


@commands.command()
def verify(file: Either) -> None:
    """Say who has signed an agreement, who has not, and its digest.

    The exit status is 0 when all members have signed exactly this text and nobody else has, 1 otherwise.
    """
    from mpcpriv.agreement.signed import SUFFIX, read_signed, signed_path
    from mpcpriv.agreement.toml import read_agreement

    signed = read_signed(signed_path(file))
    agreement = signed.agreement
    found = signed.problems()
    if not file.name.endswith(SUFFIX) and read_agreement(file) != agreement:
        found.append(f"{file} holds another text than the one that was signed; compare the two with show")
    typer.echo(f"{agreement.id} version {agreement.version}, digest {agreement.digest()}")
    missing = signed.missing()
    for member in agreement.members:
        typer.echo(f"{member.name}: {'has not signed' if member.name in missing else 'signed'}")
    for problem in found:
        typer.echo(f"mpcpriv: {problem}", err=True)
    if found:
        raise typer.Exit(1)


@commands.command()
def show(file: Either) -> None:
    """Say in plain words what an agreement permits: who may learn what, from whose data, and for what."""
    from mpcpriv.cli.agreement_text import show as show_agreement

    show_agreement(_read(file))


@commands.command()
def export(
    file: Annotated[
        Path | None,
        typer.Argument(help="The agreement: its TOML, or its .agreement.json.", show_default=False),
    ] = None,
    odrl: Annotated[bool, typer.Option("--odrl", help="As an ODRL policy, JSON-LD.")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="The JSON Schema of all agreements.")] = False,
    canonical: Annotated[bool, typer.Option("--json", help="The bytes that are signed, RFC 8785.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file, not the terminal.", show_default=False)
    ] = None,
    force: Force = False,
) -> None:
    """Write an agreement in another form.

    mpcpriv agreement export study.toml --odrl -o study.jsonld

    mpcpriv agreement new again.toml --from-odrl study.jsonld      (and back)

    mpcpriv agreement export --schema
    """
    from mpcpriv.agreement.odrl import encode_odrl
    from mpcpriv.agreement.schema import json_schema

    if odrl + schema + canonical != 1:
        raise UsageError("export: name one form: --odrl, --schema or --json")
    if schema:
        content = (json.dumps(json_schema(), indent=2) + "\n").encode()
    elif file is None:
        raise UsageError("export: which agreement? Name its file")
    else:
        agreement = _read(file)
        content = encode_odrl(agreement) if odrl else agreement.canonical()
    if output is None:
        typer.echo(content, nl=False)
    else:
        write(output, content, force=force)
        typer.echo(f"{output}: written")


def _read(file: Path) -> Agreement:
    from mpcpriv.agreement.signed import SUFFIX, read_signed
    from mpcpriv.agreement.toml import read_agreement

    return read_signed(file).agreement if file.name.endswith(SUFFIX) else read_agreement(file)


def write(path: Path, content: bytes, *, force: bool) -> None:
    """Writes all or nothing: another process never reads half a file, and a full disk leaves the old one."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if not force and path.exists():
            raise UsageError(f"{path}: is there already; choose another name, or replace it with --force")
        beside.write_bytes(content)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise UsageError(f"{path}: cannot be written ({error.strerror})") from None


def _member(config: Path) -> tuple[str, Ed25519PrivateKey]:
    """The name in a `party.toml`, and the signing key that it names."""
    from mpcpriv.documents import parse_toml, read_file
    from mpcpriv.party.config import read_signing_key

    # No more of it: who signs may do so where the member's TLS key is not.
    content = parse_toml(read_file(config, "party's configuration"), str(config))
    name, file = content.get("name"), content.get("signing_key")
    if not isinstance(name, str) or not isinstance(file, str):
        raise UsageError(f"{config}: name and signing_key are needed; make a party with `mpcpriv init`")
    return name, read_signing_key(config.parent / file)


def _candidate(folder: Path) -> Candidate:
    """A member-to-be from its folder."""
    from mpcpriv.agreement.template import Candidate
    from mpcpriv.documents import public_key, read_file
    from mpcpriv.transport.tls import load_certificate

    certificate = load_certificate(folder / "tls.crt")
    public = folder / _PUBLIC
    if public.exists():
        key = read_file(public, "signing key").decode("ascii", "replace").strip()
    else:
        key = public_key(_member(folder / "party.toml")[1])
    return Candidate(certificate.party, certificate.pem.decode(), key)

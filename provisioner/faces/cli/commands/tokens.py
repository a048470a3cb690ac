"""Commands for access: token create, token list, token revoke, audit."""

from typing import Annotated

import typer

from provisioner.core.errors import Invalid
from provisioner.core.recipe import duration
from provisioner.faces.cli import session
from provisioner.faces.cli.terminal import screen, streams

app = typer.Typer(
    name="token",
    help="Access tokens: who is let in by `provision serve`, and as whom.",
    add_completion=False,
    rich_markup_mode=None,
)
#: Longest lifetime of a token in seconds; the HTTP API has the same limit.
_LONGEST = 10**9
TokenId = Annotated[str, typer.Argument(metavar="ID", help="As `provision token list` shows it.")]


@app.callback(invoke_without_command=True)
def options(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def create(
    context: typer.Context,
    owner: Annotated[
        list[str],
        typer.Option(metavar="O", help="identity or org/identity; may be repeated. The first is meant by a bare name."),
    ],
    role: Annotated[str, typer.Option(metavar="user|admin", help="An admin may touch everybody's things.")] = "user",
    expires: Annotated[str, typer.Option(metavar="TIME", help="As 12h, 30d or 1h30m.  [default: never]")] = "",
    note: Annotated[str, typer.Option(metavar="TEXT", help="Whose it is, or what for.")] = "",
    as_json: session.Json = False,
) -> None:
    """Make a token. It is shown this once: the store keeps its digest alone."""
    if role not in ("user", "admin"):
        raise typer.BadParameter(f"{role!r} is no role; they are user and admin", param_hint="--role")
    lasting = _seconds(expires) if expires else None
    made = session.control(context).tokens.create(owner, admin=role == "admin", expires_in=lasting, note=note)
    if as_json:
        screen.put_view(made)
    else:
        streams.put(made.token)
        streams.say(f"token {made.id} is shown this once; take it back: provision token revoke {made.id}")


@app.command("list")
def list_(context: typer.Context, as_json: session.Json = False) -> None:
    """List the tokens, newest first; of none its secret."""
    service = session.control(context)
    found = service.tokens.all()
    if as_json:
        screen.put_view(found)
    else:
        screen.tokens(found, service.operator.now())


@app.command()
def revoke(context: typer.Context, id: TokenId, as_json: session.Json = False) -> None:
    """Let nobody in by a token any more."""
    gone = session.control(context).tokens.revoke(id)
    if as_json:
        screen.put_view(gone)
    else:
        streams.put(f"token {gone.id} lets nobody in any more")


def audit(
    context: typer.Context,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="How many at most.")] = 50,
    as_json: session.Json = False,
) -> None:
    """Show who changed what, when, and from where; newest first."""
    found = session.control(context).tokens.audit(limit).entries
    if as_json:
        screen.put_view(found)
    else:
        screen.audit(found)


def _seconds(text: str) -> float:
    try:
        seconds = duration.seconds(text)
        if seconds > _LONGEST:
            raise ValueError(f"write at most {_LONGEST // 86400}d")
        return seconds
    except ValueError as error:
        raise Invalid(f"--expires {text!r}: {error}") from error

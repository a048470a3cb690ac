"""Commands for access: token create, token list, token revoke, audit."""

from typing import Annotated

import typer

from provisioner.core.errors import Invalid
from provisioner.core.recipe import duration
from provisioner.core.views.pages import key_in
from provisioner.core.views.token import Audit
from provisioner.faces.cli import session
from provisioner.faces.cli.terminal import screen, streams
from provisioner.ports.control.tokens import AuditFilter

app = typer.Typer(
    name="token",
    help="Create, list and revoke access tokens.",
    add_completion=False,
    rich_markup_mode=None,
)
#: Longest lifetime of a token in seconds; the HTTP API has the same limit.
_LONGEST = 10**9
TokenId = Annotated[str, typer.Argument(metavar="ID", help="The token's id, as in `provision token list`.")]


@app.callback(invoke_without_command=True)
def options(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def create(
    context: typer.Context,
    owner: Annotated[
        list[str],
        typer.Option(metavar="O", help="identity or org/identity; may be repeated. The first is the default."),
    ],
    role: Annotated[
        str, typer.Option(metavar="user|admin", help="A user sees its owners' jobs and runs, an admin all.")
    ] = "user",
    expires: Annotated[str, typer.Option(metavar="TIME", help="12h, 30d, 1h30m.  [default: never]")] = "",
    note: Annotated[str, typer.Option(metavar="TEXT", help="A note for `token list`.")] = "",
    as_json: session.Json = False,
) -> None:
    """Create a token and print it. It is shown only once, because the store keeps only its digest."""
    if role not in ("user", "admin"):
        raise typer.BadParameter(f"{role!r} is not a role: use user or admin", param_hint="--role")
    lasting = _seconds(expires) if expires else None
    made = session.control(context).tokens.create(owner, admin=role == "admin", expires_in=lasting, note=note)
    if as_json:
        screen.put_view(made)
    else:
        streams.put(made.token)
        streams.say(f"the token is not shown again; revoke it with: provision token revoke {made.id}")


@app.command("list")
def list_(context: typer.Context, as_json: session.Json = False) -> None:
    """List the tokens, newest first, without their secrets."""
    service = session.control(context)
    found = service.tokens.all()
    if as_json:
        screen.put_view(found)
    else:
        screen.tokens(found, service.operator.now())


@app.command()
def revoke(context: typer.Context, id: TokenId, as_json: session.Json = False) -> None:
    """Revoke a token. From then on, requests with it are rejected."""
    gone = session.control(context).tokens.revoke(id)
    if as_json:
        screen.put_view(gone)
    else:
        streams.put(f"token {gone.id} is revoked")


def audit(
    context: typer.Context,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="Maximum number of changes.")] = 50,
    who: Annotated[str, typer.Option(metavar="ID", help="Only changes by this token, local:USER or schedule.")] = "",
    what: Annotated[str, typer.Option(metavar="WHAT", help="Only changes of this kind, such as start.")] = "",
    owner: Annotated[str, typer.Option(metavar="O", help="Only changes of this owner's things.")] = "",
    target: Annotated[str, typer.Option(metavar="TEXT", help="Only of targets that begin with TEXT.")] = "",
    as_json: session.Json = False,
) -> None:
    """Show who changed what, when, and from where."""
    service, which = session.control(context).tokens, AuditFilter(who, what, owner, target)
    found, after = list[Audit](), None
    while len(found) < limit:
        page = service.audit(limit - len(found), after, which)
        found += page.entries
        after = key_in(page.next_key)
        if after is None:
            break
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

"""Command that makes what an installation needs in an AWS account: setup."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from provisioner.core.cloud.setup.plan import Place
from provisioner.core.cloud.setup.rights import setup_policy
from provisioner.core.cloud.setup.settings_text import Value, added, removed, shown
from provisioner.core.cloud.setup.template import policy_names, template
from provisioner.core.errors import Conflict, Invalid
from provisioner.faces.cli import exits, session
from provisioner.faces.cli.terminal import streams


def setup(
    context: typer.Context,
    vpc: Annotated[
        str,
        typer.Option("--vpc", metavar="ID", help="Use this VPC; `default` is the region's own. [default: a new one]"),
    ] = "",
    sso_profile: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The control plane logs in with this profile of SSO: make no role for it."),
    ] = None,
    printed: Annotated[
        bool, typer.Option("--print", help="Print the CloudFormation template, and make nothing.")
    ] = False,
    print_policy: Annotated[
        bool, typer.Option("--print-policy", help="Print the IAM policy that this command's own login needs.")
    ] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Delete the stack.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before --delete.")] = False,
) -> int | None:
    """Make what an installation needs in an AWS account.

    Creates or updates one CloudFormation stack, with the bucket, the network, security groups, roles and instance
    profiles, as far as the settings do not name existing ones. Then writes what it made into the settings file.
    Comments stay, and a value that is set is never changed. `provision docs setup` lists the resources.

    After Ctrl-C, AWS goes on: the same command follows the stack again. --delete needs an installation without machines
    and runs, and keeps a bucket that is not empty.
    """
    from provisioner import reach, wiring
    from provisioner.settings import find, load_before_setup

    if [printed, print_policy, delete].count(True) > 1:
        raise typer.BadParameter("give at most one of --print, --print-policy and --delete")
    reach.check_here(context.obj["settings"])
    path = find(context.obj["settings"])
    settings = load_before_setup(str(path))
    if print_policy:
        streams.put_json(setup_policy(settings.policy_values))
        return None
    permission_set = wiring.sso_role(sso_profile) if sso_profile else ""
    stack = wiring.setup(settings, vpc, sso_profile)
    if printed:
        streams.put_json(template(stack.plan()))
        return None
    try:
        return _delete(settings, stack, path, yes=yes) if delete else _make(stack, path, permission_set)
    except KeyboardInterrupt:
        streams.say("interrupted; AWS goes on with a stack that was begun, and the same command follows it again")
        return exits.DETACHED


def _make(stack: Any, path: Path, permission_set: str) -> int:
    _follow(stack.follow())
    wanted = stack.plan()
    if not _follow(stack.apply(wanted)):
        streams.say("the stack is up to date")
        if drift := list(stack.drift()):
            for one in drift:
                streams.complain(one)
            streams.complain(
                "the account differs from the stack: undo these changes; if something was deleted, run"
                " `provision setup --delete` and `provision setup`"
            )
            return exits.CONFLICT
    _write(path, stack.entries(wanted))
    if permission_set:
        streams.say(
            f"add the customer managed policy {' and '.join(policy_names(wanted))} to the permission set"
            f" {permission_set} in IAM Identity Center"
        )
    streams.say("next: provision check")
    return 0


def _follow(lines: Iterator[str]) -> bool:
    """Print the lines as they come; return whether there were any."""
    any_came = False
    for text in lines:
        any_came = True
        streams.say(text)
    return any_came


def _write(path: Path, values: Mapping[Place, Value]) -> None:
    """Add the settings that the file lacks, and print their lines; report those that it has with other values."""
    text = path.read_bytes().decode()
    after, kept = added(text, values)
    for place, value in values.items():
        if place not in kept:
            streams.put(shown(place, value))
        elif kept[place] != value:
            streams.complain(f"{path}: {place[-1]} stays as it is set; the stack has {shown(place, value)}")
    if after != text:
        _replace(path, after)


def _replace(path: Path, text: str) -> None:
    """Replace the content of the file at once: a crash leaves the old or the new one. Raises Invalid."""
    target = path.resolve()
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise Invalid(f"{target.parent}: {error.strerror}; add the lines above to {path} yourself") from error
    try:
        with os.fdopen(handle, "wb") as opened:
            opened.write(text.encode())
            opened.flush()
            os.fsync(opened.fileno())
        os.chmod(name, target.stat().st_mode & 0o777)
        os.replace(name, target)
    except OSError as error:
        with suppress(OSError):
            os.unlink(name)
        raise Invalid(f"{path}: {error.strerror}; add the lines above yourself") from error


def _delete(settings: Any, stack: Any, path: Path, *, yes: bool) -> int:
    from provisioner import wiring

    _follow(stack.follow())
    if (values := stack.made()) is None:
        streams.say("there is no stack of this installation")
        return 0
    if alive := wiring.alive(settings):
        more = f" and {len(alive) - 3} more" if len(alive) > 3 else ""
        raise Conflict(
            f"the installation is in use: {', '.join(alive[:3])}{more}; stop the runs, and wait for their ends"
        )
    if not yes and not session.agreed(f"Delete the stack of the installation {settings.installation}?"):
        return exits.CONFLICT
    _follow(stack.delete())
    bucket = str(values.get(("bucket",), "")).partition("/")[0]
    if bucket and not stack.delete_bucket(bucket):
        streams.say(f"the bucket {bucket} is not empty: it is kept, and the settings still name it")
        values = {place: value for place, value in values.items() if place != ("bucket",)}
    text = path.read_bytes().decode()
    if (after := removed(text, values)) != text:
        _replace(path, after)
        streams.say(f"removed what named the stack's resources from {path}")
    return 0

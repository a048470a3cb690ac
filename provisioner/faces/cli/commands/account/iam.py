"""Command that prints the IAM policies for the settings: iam."""

from enum import StrEnum
from typing import Annotated

import typer

from provisioner.core.cloud import policies
from provisioner.faces.cli import session
from provisioner.faces.cli.terminal import streams


class Policy(StrEnum):
    CONTROL = policies.CONTROL
    MACHINE = policies.MACHINE
    TRUST = policies.TRUST


def iam(
    context: typer.Context,
    policy: Annotated[
        Policy | None, typer.Argument(metavar="[control|machine|trust]", help="One policy, to give to AWS.")
    ] = None,
    diff: Annotated[bool, typer.Option("--diff", help="Compare with the policies of the account's roles.")] = False,
    role: Annotated[
        str, typer.Option(metavar="NAME", help="The control plane's role, for --diff. [default: your login's own role]")
    ] = "",
    as_json: session.Json = False,
) -> int:
    """Print the IAM policies for the settings.

    control: the rights of the control plane. machine: the rights of every role of machines. trust: who may assume
    these roles. Without a name, all three are printed as one JSON object. `provision docs rights` says how to apply
    them.

    --diff prints what the account's policies have beyond the settings' (-) or lack (+). It needs a login that may read
    IAM. Its exit code is 1 if something differs. It also reports resources with the tag of another installation, which
    the control plane may not delete.
    """
    from provisioner import wiring

    settings = session.settings(context)
    if role and not diff:
        raise typer.BadParameter("is only for --diff", param_hint="--role")
    if not diff:
        made = wiring.policies(settings)
        streams.put_json(made[policy] if policy else made)
        return 0
    found = list(wiring.policy_differences(settings, [policy] if policy else list(Policy), role))
    if as_json:
        streams.put_json([{"policy": one.policy, "role": one.role, "lines": list(one.lines)} for one in found])
    for one in found if not as_json else ():
        streams.put(f"{one.policy}: role {one.role}{'' if one.lines else ': as the settings need it'}")
        for line in one.lines:
            streams.put(line)
    for name, kinds in wiring.resources_of_others(settings).items() if not as_json else ():
        counted = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
        streams.say(f"the control plane may not delete resources of the installation {name!r}: {counted}")
    return int(any(one.lines for one in found))

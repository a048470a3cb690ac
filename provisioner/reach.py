"""Choose the installation to use: that of the settings, in this process, or that of a server, over HTTP.

Arguments take precedence over environment variables. If two arguments, or two variables, each name an installation,
Invalid is raised, because one of them is a mistake. This module is separate from `wiring`, which imports everything
that a control host needs: a client of a server does not need those imports.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from provisioner.core.errors import Invalid

if TYPE_CHECKING:
    from provisioner.adapters.remote.control import Remote
    from provisioner.ports.bucket import Bucket


def server(
    told: Callable[[str], None], *, settings: object = None, url: str | None = None, token: str | None = None
) -> Remote | None:
    """Return the server at `url` or $PROVISION_URL; None if neither is set, or `settings` is set. Raises Invalid.

    `told` is called with a message when the server becomes unavailable, and when it answers again.
    """
    if settings and url:
        raise Invalid("a server's URL and settings are both given, but each selects an installation: give one of them")
    named = url or ("" if settings else os.environ.get("PROVISION_URL"))
    if not named:
        return None
    if not url and os.environ.get("PROVISION_SETTINGS"):
        raise Invalid("PROVISION_URL and PROVISION_SETTINGS are both set, but each selects an installation: unset one")
    from provisioner.adapters.remote.address import address
    from provisioner.adapters.remote.control import Remote
    from provisioner.adapters.system import RandomIds, SystemClock

    shown = os.environ.get("PROVISION_TOKEN", "") if token is None else token
    where = address(named, shown, insecure=os.environ.get("PROVISION_INSECURE") == "1")
    return Remote(where, SystemClock(), RandomIds(), told)


def bucket(name: str) -> Bucket:
    """Return a bucket of the user, to be read with the AWS credentials of this process."""
    from provisioner.adapters.aws import Session
    from provisioner.adapters.s3 import S3

    return S3(name, Session(""))


def check_here(settings: object = None) -> None:
    """Raise Invalid if $PROVISION_URL selects a server: the caller's operation works only on the control host."""
    if not settings and os.environ.get("PROVISION_URL"):
        raise Invalid("only the control host can do this: run it there, without PROVISION_URL or with --settings")

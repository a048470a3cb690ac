"""Decide which installation is meant: that of the settings, in this process, or that of a server, over HTTP.

Arguments take precedence over the environment. Two names of the same rank are rejected, because one is a mistake.
This is not in `wiring`, which imports everything that a control host needs: a client of a server does not need that.
"""

import os
from collections.abc import Callable

from provisioner.adapters.remote.address import address
from provisioner.adapters.remote.control import Remote
from provisioner.adapters.system import RandomIds, SystemClock
from provisioner.core.errors import Invalid


def server(
    told: Callable[[str], None], *, settings: object = None, url: str | None = None, token: str | None = None
) -> Remote | None:
    """Return the server of `url` or $PROVISION_URL, or None; `told` is called when it is away. Raises Invalid."""
    if settings and url:
        raise Invalid("a server's URL and settings each name an installation: give one")
    named = url or ("" if settings else os.environ.get("PROVISION_URL"))
    if not named:
        return None
    if not url and os.environ.get("PROVISION_SETTINGS"):
        raise Invalid("PROVISION_URL and PROVISION_SETTINGS are both set, and each names an installation: unset one")
    shown = os.environ.get("PROVISION_TOKEN", "") if token is None else token
    where = address(named, shown, insecure=os.environ.get("PROVISION_INSECURE") == "1")
    return Remote(where, SystemClock(), RandomIds(), told)


def check_here(settings: object = None) -> None:
    """Raise Invalid if a server is meant: only the control host can do what follows."""
    if not settings and os.environ.get("PROVISION_URL"):
        raise Invalid("only the control host can do this: run it there, without PROVISION_URL or with --settings")

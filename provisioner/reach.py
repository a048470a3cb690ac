"""Which installation is meant: the one of the settings, opened in this process, or a server's, over HTTP.

What a call names counts before the environment; two names of the same rank are refused, for one of them is a mistake.
Kept apart from `wiring`, which imports all that a control host needs: a client of a server starts without it.
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
    """The server of `url` or $PROVISION_URL, if one is meant; `told` hears when it is away. Raises Invalid."""
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
    """Raises Invalid where a server is meant, for what the control host alone can do."""
    if not settings and os.environ.get("PROVISION_URL"):
        raise Invalid("only the control host can do this: run it there, without PROVISION_URL or with --settings")

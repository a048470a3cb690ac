"""The page of access tokens, for admins: make one, which is shown once, and revoke one."""

import re
from collections.abc import Mapping
from typing import Annotated

from fastapi import Path
from starlette.responses import Response

from provisioner.core.errors import Invalid, ProvisionError
from provisioner.core.recipe import duration
from provisioner.core.views.token import NewToken
from provisioner.faces.api.http.answers import refusal
from provisioner.faces.page.routing import page_router
from provisioner.faces.page.visitor import Changing, Visit, Visiting, is_secure

router = page_router()

#: Lifetimes to choose from; empty: the token does not expire.
LIFETIMES = ("1d", "7d", "30d", "90d", "365d", "")
#: Maximum number of tokens on the page, the newest first.
MOST = 500
#: What the form has before anything is written.
BLANK: Mapping[str, str] = {"owners": "", "role": "user", "expires": "30d", "note": ""}


@router.get("/tokens")
def tokens(visit: Visiting) -> Response:
    return _page(visit, BLANK)


@router.post("/tokens")
def create(visit: Changing) -> Response:
    """Make a token, and show it in the answer: no address and no cookie ever has it."""
    given = {name: visit.form.get(name, "") for name in BLANK}
    try:
        return _page(visit, BLANK, made=_made(visit, given))
    except ProvisionError as error:
        refused = refusal(error)
        if refused is None:
            raise
        return _page(visit, given, trouble=str(error), status=refused.status_code)


@router.post("/tokens/{token}/revoke")
def revoke(visit: Changing, token: Annotated[str, Path(max_length=64)]) -> Response:
    gone = visit.control.tokens.revoke(token)
    return visit.see_other("/tokens", f"Token {gone.id} is revoked.")


def _made(visit: Visit, given: Mapping[str, str]) -> NewToken:
    owners = [each for each in re.split(r"[\s,]+", given["owners"]) if each]
    if not owners:
        raise Invalid("the owners are missing: write at least one, such as ann or lab/ann")
    if given["role"] not in ("user", "admin"):
        raise Invalid(f"{given['role']!r} is not a role: choose user or admin")
    if given["expires"] not in LIFETIMES:
        raise Invalid(f"{given['expires']!r} is not a lifetime of this form: choose one of the list")
    lasting = duration.seconds(given["expires"]) if given["expires"] else None
    admin = given["role"] == "admin"
    return visit.control.tokens.create(owners, admin=admin, expires_in=lasting, note=given["note"].strip())


def _page(
    visit: Visit, given: Mapping[str, str], *, made: NewToken | None = None, trouble: str = "", status: int = 200
) -> Response:
    found = visit.control.tokens.all()
    base = f"{'https' if is_secure(visit.request) else 'http'}://{visit.request.headers.get('host', '')}"
    more = max(0, len(found) - MOST)
    values = {
        "tokens": found[:MOST],
        "more": more,
        "given": given,
        "made": made,
        "trouble": trouble,
        "lifetimes": LIFETIMES,
        "base": base,
    }
    return visit.page("tokens.html", status, **values)

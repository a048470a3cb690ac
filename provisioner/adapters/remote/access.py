"""provisioner.ports.control.tokens.Access over HTTP; letting in is the server's own."""

import json
import re
from collections.abc import Sequence

from provisioner.adapters.remote.calls import Calls
from provisioner.core.access.callers import Audit, Caller, NewToken, Token
from provisioner.core.errors import Forbidden
from provisioner.core.not_found import no_token
from provisioner.ports.store import Key

#: For who asks a server, which knows by the token who that is.
NOBODY = Caller("", ("",), admin=False, source="")
#: Changes of a page.
PAGE = 1000


class RemoteAccess:
    """A token whose answer was lost is not made a second time; a second revocation changes nothing."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def admit(self, *_: object) -> Caller:
        raise Forbidden("only the server itself lets anybody in")

    def create(
        self, _: Caller, owners: Sequence[str], *, admin: bool, expires_in: float | None = None, note: str = ""
    ) -> NewToken:
        role = "admin" if admin else "user"
        wanted = {"owners": list(owners), "role": role, "expires_in": expires_in, "note": note}
        return self._calls.ask(NewToken, "POST", "/api/tokens", (), json.dumps(wanted).encode(), again=False)

    def tokens(self, _: Caller) -> tuple[Token, ...]:
        return self._calls.ask(tuple[Token, ...], "GET", "/api/tokens")

    def revoke(self, _: Caller, id: str) -> Token:
        if not re.fullmatch("[0-9a-f]{1,64}", id):
            raise no_token(id)
        return self._calls.ask(Token, "DELETE", f"/api/tokens/{id}")

    def audit(self, _: Caller, limit: int = 50, before: Key | None = None) -> tuple[Audit, ...]:
        found: list[Audit] = []
        while (wanted := min(limit - len(found), PAGE)) > 0:
            cursor = [("cursor", f"{before[0]!r}_{before[1]}")] if before else []
            page = self._calls.ask(tuple[Audit, ...], "GET", "/api/audit", [("limit", wanted), *cursor])
            found += page
            if len(page) < wanted:
                break
            before = page[-1].at, page[-1].id
        return tuple(found)

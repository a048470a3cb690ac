"""provisioner.ports.control.tokens.Tokens over HTTP.

`create` is not retried after a lost answer, because that would make a second token. `revoke` is idempotent.
"""

import json
import re
from collections.abc import Sequence

from provisioner.adapters.remote.calls import Calls, Query
from provisioner.core.not_found import no_token
from provisioner.core.views.pages import key_of
from provisioner.core.views.token import Audit, Audits, NewToken, Token, Tokens
from provisioner.ports.control.tokens import EVERY, AuditFilter
from provisioner.ports.store import Key

#: Maximum number of audit records of a page.
PAGE = 1000


class RemoteTokens:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def create(
        self, owners: Sequence[str], *, admin: bool, expires_in: float | None = None, note: str = ""
    ) -> NewToken:
        role = "admin" if admin else "user"
        wanted = {"owners": list(owners), "role": role, "expires_in": expires_in, "note": note}
        return self._calls.ask(NewToken, "POST", "/api/tokens", (), json.dumps(wanted).encode(), again=False)

    def all(self) -> tuple[Token, ...]:
        return self._calls.ask(Tokens, "GET", "/api/tokens").tokens

    def revoke(self, id: str) -> Token:
        if not re.fullmatch("[0-9a-f]{1,64}", id):
            raise no_token(id)
        return self._calls.ask(Token, "DELETE", f"/api/tokens/{id}")

    def audit(self, limit: int = 50, before: Key | None = None, which: AuditFilter = EVERY) -> Audits:
        found, cursor = list[Audit](), key_of(*before) if before else None
        while (wanted := min(limit - len(found), PAGE)) > 0:
            query: Query = [("limit", wanted), *which.query(), *([("cursor", cursor)] if cursor else [])]
            page = self._calls.ask(Audits, "GET", "/api/audit", query)
            found += page.entries
            cursor = page.next_key
            if cursor is None:
                break
        return Audits(tuple(found), cursor)

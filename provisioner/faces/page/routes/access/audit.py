"""The page of the audit, for admins: who changed what, when, and from where."""

from typing import Annotated
from urllib.parse import urlencode

from fastapi import Query
from starlette.responses import Response

from provisioner.core.views.pages import key_in
from provisioner.faces.page.routing import page_router
from provisioner.faces.page.visitor import Visiting
from provisioner.ports.control.tokens import AuditFilter

router = page_router()

#: Number of changes on a page.
PAGE = 100
#: The changes that the form offers. Another text may be written into the address.
WHATS = (
    *("apply", "delete", "schedule", "unschedule", "start", "stop", "stop command", "rerun", "upload", "takeover"),
    *("create token", "revoke token", "bake AMI", "use AMI", "delete AMI"),
)
#: Links to a filter have whole names, however long an older version let them be.
Word = Annotated[str, Query(max_length=4000)]


@router.get("/audit")
def audit(
    visit: Visiting, who: Word = "", what: Word = "", owner: Word = "", target: Word = "", cursor: Word = ""
) -> Response:
    which = AuditFilter(who.strip(), what.strip(), owner.strip(), target.strip())
    found = visit.control.tokens.audit(PAGE, key_in(cursor), which)
    return visit.page("audit.html", found=found, which=which, whats=WHATS, query=urlencode(vars(which)), cursor=cursor)

"""The choice of the theme, in a cookie: the page is drawn in it from its first byte, also without JavaScript."""

from urllib.parse import urlsplit

from starlette.responses import Response

from provisioner.faces.page.routing import page_router
from provisioner.faces.page.visitor import THEME, THEMES, Changing, is_secure, own_path

router = page_router()

#: Seconds for which a browser keeps the choice.
KEPT = 365 * 86400


@router.post("/theme")
def theme(visit: Changing) -> Response:
    """Store the theme, or forget it for any other word, and return to the page that the request came from."""
    referer = urlsplit(visit.request.headers.get("referer", ""))
    query = f"?{referer.query}" if referer.query else ""
    answer = visit.see_other(own_path(f"{referer.path or '/'}{query}"))
    chosen = visit.form.get("theme", "")
    age = KEPT if chosen in THEMES else 0
    # keys.js changes it too, without a request.
    secure = is_secure(visit.request)
    answer.set_cookie(THEME, chosen if age else "", max_age=age, path="/", secure=secure, samesite="strict")
    return answer

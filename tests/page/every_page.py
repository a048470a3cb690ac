"""The addresses of all pages, from the routes: a new page is tested without a change here."""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from urllib.parse import urlsplit

from fastapi.routing import APIRoute

from provisioner.faces.page.site import ROUTERS
from tests.page.world import MARK, World

#: Routes that anyone may use: the login, the files of the page, and the reports of browsers.
OPEN = {"/login", "/static/{name}", "/csp-report"}
#: Queries without which a route answers that they are missing, or has nothing to show.
QUERIES: dict[str, Sequence[str]] = {
    "/usage": ("", *(f"?by={by}" for by in ("owner", "job", "user", "instance_type", "market", "tag&tag=team"))),
}


@dataclass(frozen=True)
class Address:
    """One address of a route."""

    route: str
    method: str
    path: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def _routes() -> Iterator[tuple[str, str]]:
    for router in ROUTERS:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            yield from ((method, route.path) for method in (route.methods or set()) - {"HEAD"})


#: The routes of the page that need a session: those that read, and those that change something.
READS = sorted({route for method, route in _routes() if method == "GET"} - OPEN)
CHANGES = sorted({route for method, route in _routes() if method != "GET"} - OPEN)


def addresses(world: World, route: str, *methods: str) -> list[Address]:
    """Return the addresses of a route: one for each value of the parameters in its path."""
    names = re.findall(r"\{(\w+)(?::path)?\}", route)
    known = world.parameters(route)
    if unknown := set(names) - known.keys():
        raise LookupError(f"{route}: write in World.parameters which values {unknown} can have")
    paths = []
    for values in itertools.product(*(known[name] for name in names)):
        path = route
        for name, value in zip(names, values, strict=True):
            path = re.sub(rf"\{{{name}(:path)?\}}", value, path)
        paths += [path + query for query in QUERIES.get(route, ("",))]
    served = [method for method, path in _routes() if path == route and method in methods]
    return [Address(route, method, path) for method in served for path in paths]


class _Markup(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []
        self.links: list[str] = []
        self.parts: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        if tag in (MARK, "iframe", "object", "embed", "base", "style"):
            self.faults.append(f"element {tag}")
        if tag == "meta" and "http-equiv" in given:
            self.faults.append("meta http-equiv")
        if tag == "script" and not given.get("src", "").startswith("/static/"):
            self.faults.append("inline script")
        if "data-live" in given:
            self.parts.append(given["data-live"])
        for name, value in given.items():
            if name.startswith("on") or name in ("style", "srcdoc"):
                self.faults.append(f"attribute {name} of {tag}")
            if name in ("href", "src", "action", "formaction", "xlink:href", "data"):
                self._link(tag, value, given.get("rel", ""))

    def _link(self, tag: str, address: str, rel: str) -> None:
        # Browsers skip control characters in a scheme.
        scheme = urlsplit(re.sub(r"[\x00-\x20]", "", address)).scheme
        if scheme not in ("", "http", "https"):
            self.faults.append(f"{tag} to {address!r:.60}")
        elif scheme or address.startswith(("//", "/\\", "\\")):
            if tag != "a" or not {"noopener", "noreferrer"} <= set(rel.split()):
                self.faults.append(f"{tag} to another server, {address!r:.60}")
        elif tag == "a" and address.startswith("/"):
            self.links.append(address.partition("#")[0])


#: Characters that no page shows as they are: they hide or reorder text.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def is_page(text: str) -> bool:
    """Return whether the text is a whole page, and not a part of one, or data."""
    return text.lstrip().lower().startswith("<!doctype html>")


def faults_of(html: str) -> list[str]:
    """Return what a page's text must not have: markup or addresses that came from a text, and control characters."""
    parser = _Markup()
    parser.feed(html)
    for found in itertools.islice(_CONTROL.finditer(html), 5):
        parser.faults.append(f"control character in {html[max(0, found.start() - 60) : found.end()]!r}")
    return parser.faults


def links_of(html: str) -> list[str]:
    """Return the links of a page to pages of this server, each once."""
    parser = _Markup()
    parser.feed(html)
    return list(dict.fromkeys(parser.links))


def parts_of(html: str) -> list[str]:
    """Return the addresses of a page's live parts."""
    parser = _Markup()
    parser.feed(html)
    return parser.parts

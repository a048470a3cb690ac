"""The documentation: the list of its pages, a search in them, each page, and its pictures."""

from typing import Annotated

from fastapi import Path, Query
from starlette.responses import Response

from provisioner.faces.page import documents, topics
from provisioner.faces.page.render import HEADERS
from provisioner.faces.page.routing import page_router
from provisioner.faces.page.visitor import Visiting

router = page_router()

KINDS = {".svg": "image/svg+xml", ".png": "image/png"}
Name = Annotated[str, Path(max_length=100)]


@router.get("/docs")
def docs(visit: Visiting, q: Annotated[str, Query(max_length=200)] = "") -> Response:
    pages = [documents.document(topic) for topic in topics.topics()]
    pages.sort(key=lambda page: page.title.casefold())
    return visit.page("docs.html", pages=pages, q=q, hits=documents.search(q))


@router.get("/docs/pictures/{picture}")
def show_picture(visit: Visiting, picture: Name) -> Response:  # noqa: ARG001 - pictures need a session as pages do
    path = topics.picture(picture)
    return Response(path.read_bytes(), media_type=KINDS[path.suffix], headers=HEADERS)


@router.get("/docs/{topic}")
def document(visit: Visiting, topic: Name) -> Response:
    return visit.page("document.html", document=documents.document(topic))

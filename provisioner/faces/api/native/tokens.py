"""Access tokens and the audit, for admins."""

from dataclasses import replace
from typing import Annotated, Literal, TypedDict

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from provisioner.core.access import callers
from provisioner.faces.api.http import examples
from provisioner.faces.api.http.answers import either
from provisioner.faces.api.http.caller import Calling, Serving
from provisioner.faces.api.http.document import answers
from provisioner.faces.api.native.runs import Cursor, Limit, key_in, key_of
from provisioner.faces.views import shaped, shapes

router = APIRouter(tags=["access"])


class Tokens(TypedDict):
    """All tokens, the newest first; revoked and expired ones too."""

    tokens: list[shapes.Token]


class NewToken(shapes.Token):
    """A token just made."""

    token: Annotated[str, "What its user shows to be let in. It cannot be had again."]


class Audits(TypedDict):
    """A page of changes, the newest first."""

    entries: list[shapes.Audit]
    next_key: Annotated[str | None, "As `cursor` it gives the next page; null: there is none."]


class Wanted(BaseModel):
    """Who is to be let in."""

    model_config = ConfigDict(extra="forbid")

    owners: Annotated[
        list[Annotated[str, Field(max_length=100)]],
        Field(
            min_length=1, max_length=100, description="`name` or `org/name`; the first is meant where none is named."
        ),
    ]
    role: Annotated[Literal["admin", "user"], Field(description="An admin may touch everybody's things.")] = "user"
    expires_in: Annotated[
        float | None, Field(gt=0, le=1e9, allow_inf_nan=False, description="Seconds; null: it does not expire.")
    ] = None
    note: Annotated[str, Field(max_length=200, description="For whom, or what for.")] = ""


@router.post(
    "/tokens",
    status_code=201,
    operation_id="create_token",
    responses=answers(
        NewToken, 403, 409, 413, status=201, example={**examples.token(), "token": "pvt_…"}, lossless=True
    ),
)
def create_token(request: Request, server: Serving, caller: Calling, wanted: Wanted) -> Response:
    """Make a token; its text is told this once."""
    made = server.access.create(
        caller, wanted.owners, admin=wanted.role == "admin", expires_in=wanted.expires_in, note=wanted.note
    )
    now = server.service.operator.now()

    def shown(new: callers.NewToken) -> NewToken:
        return {**shaped.token(new.stored, now), "token": new.token}

    return either(request, replace(made, stored=_told(made.stored)), shown, 201)


def _told(token: callers.Token) -> callers.Token:
    """As it may be told: the digest is the store's alone."""
    return replace(token, sha256="")


@router.get(
    "/tokens",
    operation_id="list_tokens",
    responses=answers(Tokens, 403, example={"tokens": [examples.token()]}, lossless=True),
)
def list_tokens(request: Request, server: Serving, caller: Calling) -> Response:
    """List the tokens, never with what lets anybody in."""
    now = server.service.operator.now()
    told = tuple(_told(each) for each in server.access.tokens(caller))
    return either(request, told, lambda found: {"tokens": [shaped.token(each, now) for each in found]})


@router.delete(
    "/tokens/{token}",
    operation_id="revoke_token",
    responses=answers(shapes.Token, 403, 404, example=examples.token(), lossless=True),
)
def revoke_token(
    request: Request,
    server: Serving,
    caller: Calling,
    token: Annotated[str, Path(max_length=64, description="The token's id.")],
) -> Response:
    """Let nobody in by it any more."""
    now = server.service.operator.now()
    return either(request, _told(server.access.revoke(caller, token)), lambda found: shaped.token(found, now))


@router.get(
    "/audit",
    operation_id="list_audit",
    responses=answers(Audits, 403, example={"entries": [examples.audit()], "next_key": None}, lossless=True),
)
def list_audit(request: Request, server: Serving, caller: Calling, limit: Limit = 50, cursor: Cursor = "") -> Response:
    """List the changes, who made them, and from where; the newest first."""

    def page(found: tuple[callers.Audit, ...]) -> Audits:
        next_key = key_of(found[-1].at, found[-1].id) if len(found) == limit else None
        return {"entries": [shaped.audit(each) for each in found], "next_key": next_key}

    return either(request, server.access.audit(caller, limit, key_in(cursor)), page)

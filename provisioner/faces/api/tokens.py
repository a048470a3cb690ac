"""Access tokens and the audit, for admins."""

from typing import Annotated, Literal, TypedDict

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from provisioner.faces import shapes
from provisioner.faces.api import examples
from provisioner.faces.api.answers import answer
from provisioner.faces.api.caller import Calling, Serving
from provisioner.faces.api.document import answers
from provisioner.faces.api.runs import Cursor, Limit, key_in, key_of

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
    responses=answers(NewToken, 403, 409, 413, status=201, example={**examples.token(), "token": "pvt_…"}),
)
def create_token(server: Serving, caller: Calling, wanted: Wanted) -> Response:
    """Make a token; its text is told this once."""
    made = server.access.create(
        caller, wanted.owners, admin=wanted.role == "admin", expires_in=wanted.expires_in, note=wanted.note
    )
    return answer({**shapes.token(made.stored, server.service.now()), "token": made.token}, 201)


@router.get(
    "/tokens", operation_id="list_tokens", responses=answers(Tokens, 403, example={"tokens": [examples.token()]})
)
def list_tokens(server: Serving, caller: Calling) -> Response:
    """List the tokens, never with what lets anybody in."""
    now = server.service.now()
    return answer({"tokens": [shapes.token(each, now) for each in server.access.tokens(caller)]})


@router.delete(
    "/tokens/{token}", operation_id="revoke_token", responses=answers(shapes.Token, 403, 404, example=examples.token())
)
def revoke_token(
    server: Serving, caller: Calling, token: Annotated[str, Path(max_length=64, description="The token's id.")]
) -> Response:
    """Let nobody in by it any more."""
    return answer(shapes.token(server.access.revoke(caller, token), server.service.now()))


@router.get(
    "/audit",
    operation_id="list_audit",
    responses=answers(Audits, 403, example={"entries": [examples.audit()], "next_key": None}),
)
def list_audit(server: Serving, caller: Calling, limit: Limit = 50, cursor: Cursor = "") -> Response:
    """List the changes, who made them, and from where; the newest first."""
    found = server.access.audit(caller, limit, key_in(cursor))
    next_key = key_of(found[-1].at, found[-1].id) if len(found) == limit else None
    return answer({"entries": [shapes.audit(each) for each in found], "next_key": next_key})

"""Endpoints for access tokens and the audit; only for admins."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from provisioner.core.views.pages import key_in
from provisioner.core.views.token import Audits, NewToken, Token, Tokens
from provisioner.faces.api.http import examples
from provisioner.faces.api.http.answers import shown
from provisioner.faces.api.http.caller import Acting
from provisioner.faces.api.http.document import answers
from provisioner.faces.api.native.runs import Cursor, Limit
from provisioner.ports.control.tokens import AuditFilter

router = APIRouter(tags=["access"])


Word = Annotated[str, Query(max_length=200, description="Only changes that have exactly this.")]


class Wanted(BaseModel):
    """The owners, role and lifetime of a new token."""

    model_config = ConfigDict(extra="forbid")

    owners: Annotated[
        list[Annotated[str, Field(max_length=100)]],
        Field(
            min_length=1,
            max_length=100,
            description="`name` or `org/name`. The first is the default for job names without an owner.",
        ),
    ]
    role: Annotated[
        Literal["admin", "user"],
        Field(description="A user may access only the jobs and runs of its owners, an admin those of all owners."),
    ] = "user"
    expires_in: Annotated[
        float | None,
        Field(gt=0, le=1e9, allow_inf_nan=False, description="Lifetime in seconds; null: the token does not expire."),
    ] = None
    note: Annotated[str, Field(max_length=200, description="Note, such as the user or purpose of the token.")] = ""


@router.post(
    "/tokens",
    status_code=201,
    operation_id="create_token",
    responses=answers(NewToken, 403, 409, 413, status=201, example=NewToken(**vars(examples.token()), token="pvt_…")),
)
def create_token(control: Acting, wanted: Wanted) -> Response:
    """Create a token. Only this answer contains the token itself."""
    made = control.tokens.create(
        wanted.owners, admin=wanted.role == "admin", expires_in=wanted.expires_in, note=wanted.note
    )
    return shown(made, 201)


@router.get("/tokens", operation_id="list_tokens", responses=answers(Tokens, 403, example=Tokens((examples.token(),))))
def list_tokens(control: Acting) -> Response:
    """List the tokens, without their secrets; also revoked and expired ones."""
    return shown(Tokens(control.tokens.all()))


@router.delete(
    "/tokens/{token}", operation_id="revoke_token", responses=answers(Token, 403, 404, example=examples.token())
)
def revoke_token(
    control: Acting, token: Annotated[str, Path(max_length=64, description="The token's id.")]
) -> Response:
    """Revoke a token. From then on, requests with it are rejected."""
    return shown(control.tokens.revoke(token))


@router.get(
    "/audit", operation_id="list_audit", responses=answers(Audits, 403, example=Audits((examples.audit(),), None))
)
def list_audit(
    control: Acting,
    limit: Limit = 50,
    cursor: Cursor = "",
    who: Word = "",
    what: Word = "",
    owner: Word = "",
    target: Annotated[str, Query(max_length=200, description="Only changes whose target begins with it.")] = "",
) -> Response:
    """List the changes, the newest first: who made each, and from which address.

    With a filter, a page may have fewer changes than `limit` although more follow: the last page has no `next_key`.
    """
    return shown(control.tokens.audit(limit, key_in(cursor), AuditFilter(who, what, owner, target)))

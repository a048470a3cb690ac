"""Views of access tokens and audit records."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from provisioner.core.views.codec import Moment


@dataclass(frozen=True)
class Token:
    """An access token, without its secret."""

    id: str
    owners: tuple[str, ...]
    role: Literal["admin", "user"]
    note: str
    state: Literal["valid", "expired", "revoked"]
    created_at: Moment
    created_by: Annotated[str, "A token's id, or `local:` and a Unix user."]
    expires_at: Annotated[Moment | None, "Null: never."]
    revoked_at: Moment | None


@dataclass(frozen=True)
class Tokens:
    """All tokens, including revoked and expired ones, the newest first."""

    tokens: tuple[Token, ...]


@dataclass(frozen=True)
class NewToken(Token):
    """A new access token, with its secret."""

    token: Annotated[str, "The access token to log in with. It is shown only once."] = field(repr=False)


@dataclass(frozen=True)
class Audit:
    """The audit record of one change."""

    id: str
    at: Moment
    who: Annotated[str, "A token's id, `local:` and a Unix user, or `schedule`."]
    source: Annotated[str, "The address that the call came from, or `local`."]
    what: Annotated[
        str,
        "apply, delete, schedule, unschedule, start, stop, takeover, create token, revoke token, bake AMI, use AMI or"
        " delete AMI",
    ]
    owner: Annotated[str | None, "Owner of the changed job, run or token; null for a change of the installation."]
    target: Annotated[str, "The job's name, or the id of the run, token or AMI."]


@dataclass(frozen=True)
class Audits:
    """A page of audit records, the newest first."""

    entries: tuple[Audit, ...]
    next_key: Annotated[str | None, "Pass it as `cursor` for the next page; null if there is none."]

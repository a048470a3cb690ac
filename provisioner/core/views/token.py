"""Views of access tokens and of the audit."""

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
    """All tokens, the newest first; revoked and expired ones too."""

    tokens: tuple[Token, ...]


@dataclass(frozen=True)
class NewToken(Token):
    """A token just made."""

    token: Annotated[str, "What its user shows to be let in. It cannot be had again."] = field(repr=False)


@dataclass(frozen=True)
class Audit:
    """One change, stored with it."""

    id: str
    at: Moment
    who: Annotated[str, "A token's id, `local:` and a Unix user, or `schedule`."]
    source: Annotated[str, "The address that the call came from, or `local`."]
    what: Annotated[
        str,
        "apply, delete, schedule, unschedule, start, stop, takeover, create token, revoke token, bake AMI, use AMI or"
        " delete AMI",
    ]
    owner: Annotated[str | None, "Whose thing was changed; null: the installation's."]
    target: Annotated[str, "The job's name, or the id of the run, token or AMI."]


@dataclass(frozen=True)
class Audits:
    """A page of changes, the newest first."""

    entries: tuple[Audit, ...]
    next_key: Annotated[str | None, "As `cursor` it gives the next page; null: there is none."]

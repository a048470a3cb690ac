"""Who uses the installation, what they may touch, and what is remembered of their changes."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Caller:
    """Whoever uses the use cases."""

    #: `local:` and the Unix user, or the token's id: what the audit says.
    name: str
    #: `identity` or `org/identity`; the first is meant where a job's name says none.
    owners: tuple[str, ...]
    #: May touch everybody's things.
    admin: bool
    #: The address that the call came from, or `local`.
    source: str

    @property
    def owner(self) -> str:
        return self.owners[0]

    @property
    def sees(self) -> tuple[str, ...] | None:
        """Whose things there are for this caller; None: everybody's."""
        return None if self.admin else self.owners

    def may(self, owner: str) -> bool:
        return self.admin or owner in self.owners


#: Who starts what is due.
SCHEDULE = Caller("schedule", ("schedule",), admin=True, source="local")


@dataclass(frozen=True)
class Token:
    """An access token as it is stored: nothing of it lets anybody in."""

    id: str
    #: Of its secret part, in hexadecimal digits.
    sha256: str
    owners: tuple[str, ...]
    admin: bool
    note: str
    created_at: float
    created_by: str
    #: None: never.
    expires_at: float | None = None
    revoked_at: float | None = None
    version: int = 0


@dataclass(frozen=True)
class NewToken:
    """A token just made."""

    #: What its user shows to be let in. It is nowhere else, and cannot be had again.
    token: str = field(repr=False)
    stored: Token

    @property
    def id(self) -> str:
        return self.stored.id


@dataclass(frozen=True)
class Audit:
    """One change, stored with it or not at all."""

    id: str
    at: float
    who: str
    source: str
    #: `apply`, `delete`, `schedule`, `unschedule`, `start`, `stop`, `takeover`, `create token`, `revoke token`,
    #: `bake AMI`, `use AMI`, `delete AMI`.
    what: str
    #: Whose thing was changed; of a token, its first owner; empty: the installation's.
    owner: str
    #: The job's name, or the id of the run, token or AMI.
    target: str
    version: int = 0

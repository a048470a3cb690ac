"""Callers and their rights, access tokens, logins of the page, and the audit records of changes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Caller:
    """A user or program that calls the services, with its rights."""

    #: `local:` and the Unix user, or the token's id; audit records contain it.
    name: str
    #: `identity` or `org/identity`; the first is the default for job names without an owner.
    owners: tuple[str, ...]
    #: Whether the caller has rights to the jobs and runs of all owners.
    admin: bool
    #: The client's address, or `local`.
    source: str

    @property
    def owner(self) -> str:
        return self.owners[0]

    @property
    def sees(self) -> tuple[str, ...] | None:
        """The owners whose jobs and runs the caller sees; None: all owners."""
        return None if self.admin else self.owners

    def may(self, owner: str) -> bool:
        return self.admin or owner in self.owners


#: The caller in audit records of runs that a schedule starts or stops.
SCHEDULE = Caller("schedule", ("schedule",), admin=True, source="local")


@dataclass(frozen=True)
class Token:
    """A stored access token; nothing in it can be used to log in."""

    id: str
    #: SHA-256 of the token's secret part, in hexadecimal digits.
    sha256: str
    owners: tuple[str, ...]
    admin: bool
    note: str
    created_at: float
    created_by: str
    #: Unix seconds; None: never.
    expires_at: float | None = None
    revoked_at: float | None = None
    version: int = 0


@dataclass(frozen=True)
class Session:
    """A stored login of the page; nothing in it can be used to log in."""

    #: SHA-256 of the session's secret, in hexadecimal digits.
    id: str
    #: The id of the access token that logged in. The session ends when this token is revoked or expires.
    token: str
    created_at: float
    #: Unix seconds.
    expires_at: float
    version: int = 0


@dataclass(frozen=True)
class Audit:
    """The audit record of one change, stored in the same transaction as the change."""

    id: str
    at: float
    who: str
    source: str
    #: `apply`, `delete`, `schedule`, `unschedule`, `start`, `stop`, `stop command`, `rerun`, `upload`, `takeover`,
    #: `create token`, `revoke token`, `bake AMI`, `use AMI`, `delete AMI`.
    what: str
    #: The owner of the changed job, run or token (its first owner); empty for a change of the installation.
    owner: str
    #: The job's name, or the id of the run, upload, token or AMI; for a command the run's id and the index.
    target: str
    version: int = 0

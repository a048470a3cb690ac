"""Make the NotFound errors for unknown names, so that all services use the same messages."""

from collections.abc import Iterable

from provisioner.core.errors import NotFound
from provisioner.core.suggestions import did_you_mean


def no_job(name: str, known: Iterable[str] = ()) -> NotFound:
    """Return the error for an unknown job; `known` are the names of the caller's jobs, for a suggestion."""
    meant = did_you_mean(name, known)
    return NotFound(f"no job {name!r}{meant or '; `provision jobs` lists the jobs, `provision apply FILE` makes one'}")


def no_run(name: str, jobs: Iterable[str] = ()) -> NotFound:
    """Return the error for an unknown run; it suggests one of `jobs`, because a job's name means its latest run."""
    return NotFound(f"no run {name!r}{did_you_mean(name, jobs) or '; `provision runs` lists the runs'}")


def no_upload(id: str) -> NotFound:
    return NotFound(f"no upload {id!r}: an upload that no run uses is deleted after 24 h; upload the commands again")


def no_token(id: str) -> NotFound:
    return NotFound(f"no token {id!r}; `provision token list` lists the tokens")

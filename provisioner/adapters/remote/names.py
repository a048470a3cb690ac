"""Check names, and turn them into paths and queries of the HTTP API."""

import re
from typing import Never

from provisioner.adapters.remote.calls import Query
from provisioner.core.errors import Invalid
from provisioner.core.not_found import no_job, no_run

#: Patterns of possible names. No other name is sent, because its characters could change the path of the request.
_RUN, _JOB, _OWNER = re.compile("[0-9a-f]{1,32}"), re.compile("[A-Za-z0-9-]{1,63}"), re.compile("[a-z0-9/-]{0,80}")


def is_possible_job(name: str) -> bool:
    """Return whether a job can have this name."""
    owner, _, short = name.rpartition("/")
    return bool(_JOB.fullmatch(short) and _OWNER.fullmatch(owner))


def job_path(name: str) -> tuple[str, Query]:
    """Return the path and query of a job. Raises NotFound for an impossible name."""
    if not is_possible_job(name):
        raise no_job(name)
    owner, _, short = name.rpartition("/")
    return f"/api/jobs/{short}", [("owner_name", owner)] if owner else []


def run_path(name: str) -> str:
    """Return the path of a run. Raises NotFound for an impossible name."""
    if not _RUN.fullmatch(name.lower()):
        raise no_run(name)
    return f"/api/runs/{name}"


def control_host_only(what: str) -> Never:
    """Raise Invalid for an operation that is possible only on the control host."""
    raise Invalid(f"only the control host can {what}: run the command on it, without PROVISION_URL")

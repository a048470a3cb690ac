"""The JSON that each command prints with `--json`, as types."""

from collections.abc import Mapping
from typing import Any

from provisioner.core.check.report import Check
from provisioner.core.views.ami import Ami
from provisioner.core.views.commands import Command, Estimate
from provisioner.core.views.costs.usage import Usage
from provisioner.core.views.history.shapes import Revision, RevisionRecipe
from provisioner.core.views.job import Job, Schedule
from provisioner.core.views.log import Log
from provisioner.core.views.overview import Machines, Top
from provisioner.core.views.receipt import Receipt
from provisioner.core.views.run import Run, Status
from provisioner.core.views.schema import Schemas
from provisioner.core.views.token import Audit, NewToken, Token

#: By command; `logs` prints one object on each line.
OUTPUTS: Mapping[str, Any] = {
    "check": Check,
    "apply": Job,
    "jobs": list[Job],
    "show": Job,
    "revisions": list[Revision] | RevisionRecipe,
    "delete": Job,
    "start": Run,
    "map": Run | Estimate,
    "rerun": Run,
    "runs": list[Run],
    "status": Status,
    "commands": list[Command],
    "top": Top,
    "machines": Machines,
    "logs": Log,
    "wait": Run | list[Run],
    "stop": list[Run],
    "receipt": Receipt,
    "usage": Usage,
    "schedule": Schedule,
    "schedules": list[Schedule],
    "ami bake": Ami,
    "ami list": list[Ami],
    "ami use": Ami | None,
    "token create": NewToken,
    "token list": list[Token],
    "token revoke": Token,
    "audit": list[Audit],
}


def output_schema(command: str) -> dict[str, Any]:
    """Return the JSON Schema of a command's output. Raises LookupError for a command without a schema."""
    schemas = Schemas("#/$defs/")
    found = schemas.of(OUTPUTS[command])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found, "$defs": schemas.shapes}

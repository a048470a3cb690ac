"""Names that users and other versions depend on: names may be added, but never renamed or removed.

Scripts, dashboards, stored records, live machines and clients of other versions use these names. Add a new name to
`frozen_names.json`. A name that is replaced must stay readable, and the README must say how to migrate.
"""

import ast
import dataclasses
import json
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from fastapi import FastAPI
from pydantic import BaseModel

from provisioner.core.check import report
from provisioner.core.cloud import tags
from provisioner.core.commands import uploads
from provisioner.core.logs import archive
from provisioner.core.protocol import keys, messages, words
from provisioner.core.recipe.recipe import Spec
from provisioner.core.run import records
from provisioner.core.run.states import State, Waiting
from provisioner.core.views import ami, commands, job, log, overview, receipt, run, token, upload
from provisioner.core.views.codec import hints
from provisioner.core.views.costs import usage
from provisioner.core.views.history import shapes
from provisioner.faces import python
from provisioner.faces.api.app import ROUTERS
from provisioner.faces.api.http import document
from provisioner.faces.api.http.metrics import Meters
from provisioner.faces.cli import exits
from provisioner.faces.cli.main import app
from provisioner.service.tally import Tally
from provisioner.settings import Settings

ROOT = Path(__file__).parents[1]
VIEWS = (ami, commands, job, log, overview, receipt, report, run, shapes, token, upload, usage)
LIST = Path(__file__).with_name("frozen_names.json")


def actual() -> dict[str, list[str]]:
    """Return the names that the code has now, by kind."""
    found = {
        "settings": set(_fields_of(Settings)),
        "recipe": set(_fields_of(Spec)),
        "environment variables": _environment(),
        "EC2 tags": {value for name, value in vars(tags).items() if name.endswith("_TAG")},
        "bucket keys": set(_keys()),
        "messages of agents": set(_messages()),
        "stored records": set(_records()),
        "states and causes": {f"state {each}" for each in State} | {f"waiting {each}" for each in Waiting},
        "outcomes and steps": {f"outcome {each}" for each in words.Outcome} | {f"step {each}" for each in words.Step},
        "--json": set(_json()),
        "CLI": set(_commands(typer.main.get_command(app), "provision")),
        "exit codes": set(_exit_codes()),
        "HTTP": set(_operations()),
        "events of a followed log": _events(),
        "metrics": _metrics(),
        "journal": _journal(),
        "systemd units": {path.name for path in (ROOT / "config/systemd").iterdir()} | set(_machine_units()),
        "Python": {"connect", *_public(python.Client), *_public(python.Run)},
    }
    return {kind: sorted(names) for kind, names in found.items()}


def _fields_of(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + (field.alias or name)
        for inner in _models(field.annotation):
            yield from _fields_of(inner, f"{prefix}{field.alias or name}.")


def _models(kind: Any) -> Iterator[type[BaseModel]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    for inner in typing.get_args(kind):
        yield from _models(inner)


def _environment() -> set[str]:
    sources = [path for path in (ROOT / "provisioner").rglob("*") if path.suffix in (".py", ".sh")]
    return {name for path in sources for name in re.findall(r"\bPROVISION_[A-Z_]+\b", path.read_text())}


def _keys() -> Iterator[str]:
    samples: dict[str, Any] = {"offset": 7, "sequence": 7, "number": 7, "attempt": 1, "rank": 0, "later": 0}
    for module in (keys, archive, uploads):
        for name, function in vars(module).items():
            if name.endswith(("_key", "_prefix")) and not name.startswith("_"):
                names = list(function.__annotations__)[:-1]
                yield function(**{each: samples.get(each, f"<{each}>") for each in names})


def _messages() -> Iterator[str]:
    for name, kind in vars(messages).items():
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            yield from (f"{name}.{field.name}" for field in dataclasses.fields(kind))


def _records() -> Iterator[str]:
    kinds = [*typing.get_args(records.Record), records.Tried, records.Verdict]
    for kind in kinds:
        yield from (f"{kind.__name__}.{field.name}" for field in dataclasses.fields(kind))


def _json() -> Iterator[str]:
    for view in VIEWS:
        for name, kind in vars(view).items():
            if isinstance(kind, type) and dataclasses.is_dataclass(kind):
                yield from (f"{name}.{field}" for field in hints(kind))


def _commands(command: Any, path: str) -> Iterator[str]:
    yield path
    for parameter in command.params:
        for option in (*parameter.opts, *parameter.secondary_opts):
            if option.startswith("-"):
                yield f"{path} {option}"
    if hasattr(command, "list_commands"):
        context = typer.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner, f"{path} {name} is listed"
            yield from _commands(inner, f"{path} {name}")


def _exit_codes() -> Iterator[str]:
    for name, code in vars(exits).items():
        if name.isupper() and isinstance(code, int):
            yield f"{code} {name}"
    for outcome, code in exits.WITHOUT_EXIT_CODE.items():
        yield f"{code} {outcome}"


def _operations() -> Iterator[str]:
    app = FastAPI()
    for router in ROUTERS:
        app.include_router(router, prefix="/api")
    for path, operations in document.openapi(app)["paths"].items():
        for method, operation in operations.items():
            yield f"{method.upper()} {path}"
            for parameter in operation.get("parameters", ()):
                yield f"{method.upper()} {path} {parameter['name']}"


def _events() -> set[str]:
    source = (ROOT / "provisioner/faces/api/http/stream.py").read_text()
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return {
        str(call.args[0].value)
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == "event" and isinstance(call.args[0], ast.Constant)
    }


def _metrics() -> set[str]:
    meters = Meters()
    meters.read(lambda: Tally({(State.QUEUED, ""): 1}, {}, {}, 0.0), lambda: 0)
    return {word.split()[2] for word in meters.text().decode().splitlines() if word.startswith("# TYPE provision_")}


def _journal() -> set[str]:
    """Return the fields of journal lines: keywords of `tell` and `complain`, and the fields that the journal adds."""
    fields = {"at", "level", "text", "error", "traceback"}
    for path in (ROOT / "provisioner").rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(call, ast.Call)
                and isinstance(call.func, ast.Attribute)
                and call.func.attr in ("tell", "complain")
                and len(call.args) == 2
            ):
                fields |= {keyword.arg for keyword in call.keywords if keyword.arg}
    return fields


def _machine_units() -> Iterator[str]:
    source = (ROOT / "provisioner/core/cloud/user_data.py").read_text()
    yield from re.findall(r"\bprovision[a-z-]*\.(?:service|timer)\b", source)


def _public(kind: type) -> Iterator[str]:
    for name in vars(kind):
        if not name.startswith("_"):
            yield f"{kind.__name__}.{name}"


def test_no_frozen_name_is_renamed_or_removed() -> None:
    frozen, now = json.loads(LIST.read_text()), actual()
    gone = {kind: sorted(set(names) - set(now.get(kind, ()))) for kind, names in frozen.items()}
    assert not {kind: names for kind, names in gone.items() if names}


def test_every_new_name_is_added_to_the_list() -> None:
    """Once a name is in the list, users may depend on it."""
    frozen, now = json.loads(LIST.read_text()), actual()
    new = {kind: sorted(set(names) - set(frozen.get(kind, ()))) for kind, names in now.items()}
    assert not {kind: names for kind, names in new.items() if names}

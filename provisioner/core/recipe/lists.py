"""The command of a recipe: one shell line, or a list of them that each run once; and the options of such a list."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, PlainSerializer, ValidationInfo
from pydantic_core import CoreSchema
from pydantic_core.core_schema import with_info_wrap_validator_function

from provisioner.core.recipe import fields, kinds
from provisioner.core.recipe.kinds import SCALAR, Kind, Part, is_stored
from provisioner.core.recipe.parts import Retry
from provisioner.core.recipe.yaml import Path

#: Maximum number of commands in a recipe.
MOST_COMMANDS = 10_000
#: Maximum number of commands that run at once on a machine.
MOST_SLOTS = 256
#: Maximum `list.retries`: each try has a generation, which is one byte, and lost machines use up generations, too.
MOST_RETRIES = 100

_LINE_SCHEMA = {"type": SCALAR, "minLength": 1}


def _item(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("write a shell line")
    return fields.shell_line(value)


_Lines = tuple[Annotated[str, Kind(_item, _LINE_SCHEMA, first=True)], ...]


@dataclass(frozen=True)
class _LineOrLines:
    """Checks a shell line or a list of shell lines. A problem of an item has the item's index in its path."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def checked(value: Any, lines: Callable[[Any], Any], info: ValidationInfo) -> Any:
            value = _unpacked(value)
            if isinstance(value, str):
                return fields.shell_line(value, stored=is_stored(info))
            if not isinstance(value, list | tuple):
                raise ValueError("write a shell line, or a list of shell lines")
            if not value:
                raise ValueError("write at least one shell line")
            if len(value) > MOST_COMMANDS:
                raise ValueError(f"a recipe has at most {MOST_COMMANDS:,} commands; write several jobs")
            return lines(value)

        return with_info_wrap_validator_function(checked, handler.generate_schema(_Lines))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        several = {"type": "array", "items": _LINE_SCHEMA, "minItems": 1, "maxItems": MOST_COMMANDS}
        return {"anyOf": [_LINE_SCHEMA, several]}


#: A shell line, or a list of them. Text that is a JSON array is a list too, because Saturn's API has only text.
Command = Annotated[
    str | tuple[str, ...],
    _LineOrLines(),
    PlainSerializer(lambda value: value if isinstance(value, str) else list(value), return_type=str | list[str]),
]

#: The number of commands of a list that run at once on a machine.
Slots = Annotated[
    int,
    kinds.between(1, MOST_SLOTS, "the number of commands that run at once on a machine"),
    kinds.or_nothing(1),
]


#: Ends of a command that an exit code does not name: the kernel killed it for lack of memory, or it reached its limit.
REASONS = ("oom", "limit")
_CODE = kinds.between(1, 255, "an exit code")
_FAILURES = kinds.between(0, 999_999_999, "the number of commands that may fail")


def _end(value: Any) -> int | str:
    if value in REASONS:
        return str(value)
    try:
        return int(_CODE.check(value))
    except ValueError as error:
        raise ValueError(f"{error}, or {' or '.join(REASONS)}") from error


def _failures_or_never(value: Any) -> int | None:
    try:
        return None if value in (None, "never") else int(_FAILURES.check(value))
    except ValueError as error:
        raise ValueError(f"{error}, or never") from error


class ListOptions(Part):
    """Options of runs with a list of commands."""

    #: For each command, from its begin; `limits.runtime` is for the whole list, from the begin of its first command.
    limit: fields.DurationOrNever = None
    #: How often a command that failed runs again.
    retries: Annotated[
        int, kinds.between(0, MOST_RETRIES, "how often a command that failed runs again"), kinds.or_nothing(0)
    ] = 0
    #: The failures after which a command runs again: exit codes and REASONS. If empty, all failures.
    retry_on: Annotated[
        tuple[Annotated[int | str, Kind(_end, {"anyOf": [_CODE.schema, {"enum": list(REASONS)}]}, first=True)], ...],
        kinds.or_nothing([]),
    ] = ()
    #: The list ends early when more commands than this have failed or are lost for good; None for `never`.
    max_failures: Annotated[
        int | None,
        Kind(_failures_or_never, {"anyOf": [_FAILURES.schema, {"enum": ["never", None]}]}, first=True),
        PlainSerializer(lambda value: "never" if value is None else value, return_type=int | str),
    ] = None
    #: What then happens to the commands that run: they may `finish`, or they are ended (`kill`).
    on_max: Annotated[Literal["finish", "kill"], kinds.or_nothing("finish")] = "finish"
    #: Whether a command that was running on a machine that was lost runs again.
    restart_lost: Annotated[fields.Flag, kinds.or_nothing(True)] = True


def of_single(retry: Retry) -> Iterator[tuple[Path, str]]:
    """Yield the fields of `retry` that apply only to a single command, as (path, message)."""
    for name, instead in (
        ("on", "list.retries and list.retry_on"),
        ("requeue_on", "list.retries and list.retry_on"),
        ("rerun", "list.restart_lost"),
    ):
        if getattr(retry, name) != getattr(Retry(), name):
            yield ("spec", "retry", name), f"retry.{name} is for a single command; for a list, write {instead}"


def notes(slots: int, options: ListOptions) -> Iterator[str]:
    """Yield what may surprise in a recipe with a single command."""
    for name, value, default in (("nprocs", slots, 1), ("list", options, ListOptions())):
        if value != default:
            yield f"{name} is for lists: `provision map` uses it, and runs of the single command ignore it"


def as_text(command: "str | list[str]") -> str:
    """Return the command as Saturn's API has it: a list as the text of a JSON array."""
    return command if isinstance(command, str) else json.dumps(command, ensure_ascii=False)


def _unpacked(value: Any) -> Any:
    """Return the items of a text that is a JSON array, and any other value as it is."""
    array = _array(value) if isinstance(value, str) else None
    if array is None:
        return value
    for index, item in enumerate(array):
        if not isinstance(item, str):
            raise ValueError(f"the JSON array has something else than text at {index}; write a list of shell lines")
    return array


def _array(text: str) -> list[Any] | None:
    """Return the items of a JSON array; None for another text, such as the shell's command `[`."""
    if not text.lstrip().startswith("["):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) else None

"""Turn the problems of a document into one error message that a user can act on."""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from provisioner.core.errors import Invalid
from provisioner.core.recipe.yaml import Path

#: Descriptions of the expected value, by pydantic's name of the error.
_RIGHT = {
    "string_type": "write text",
    "int_type": "write a whole number",
    "int_parsing": "write a whole number",
    "float_type": "write a number",
    "float_parsing": "write a number",
    "greater_than_equal": "write {ge} or more",
    "less_than_equal": "write {le} or less",
    "dict_type": "write a mapping (name: value)",
    "model_type": "write a mapping (name: value)",
    "model_attributes_type": "write a mapping (name: value)",
    "list_type": "write a list",
    "tuple_type": "write a list",
    "literal_error": "write {expected}",
    "enum": "write {expected}",
    "string_too_short": "write some text",
    "too_long": "write at most {max_length} characters",
}


#: Fields whose content is never shown in a message: a user may have written a secret there.
_PRIVATE = frozenset({"environment_variables", "config_files", "secrets", "credential", "env"})
#: Fields within _PRIVATE whose values are shown, because they accept only a few words.
_OPEN = frozenset({"attachment_type", "mode"})

#: Hints for unknown field names that are not similar to the correct name.
_ABOUT = {
    "timeout": "did you mean spec.limits.runtime?",
    "env": "did you mean spec.environment_variables?",
    **dict.fromkeys(
        ("value", "username", "password", "token"),
        "a recipe must not contain a secret, only its name: ssm:/path or secretsmanager:id#key",
    ),
}
#: Least similarity (difflib, 0 to 1) of a suggested name, in the same group and in other groups: a wrong suggestion
#: is worse than no suggestion.
_ALIKE, _ALIKE_ELSEWHERE = 0.7, 0.8


def invalid(source: str, problems: Iterable[tuple[Path, str]], lines: Mapping[Path, int]) -> Invalid:
    """Return one error for all problems, with a line each: source, line number, path, problem."""
    placed = sorted((_line(path, lines), _dotted(path), text) for path, text in problems)
    return Invalid(
        "\n".join(
            f"{source}{f':{line}' if line else ''}: {path}{': ' if path else ''}{text}" for line, path, text in placed
        )
    )


def lines(problems: Iterable[tuple[Path, str]]) -> tuple[str, ...]:
    """Return one line for each problem, without source and line number: path, problem."""
    return tuple(f"{_dotted(path)}{': ' if path else ''}{text}" for path, text in problems)


def told(error: ValidationError, model: type[BaseModel]) -> list[tuple[Path, str]]:
    """Return the path and message of each of pydantic's errors; for unknown fields, suggest field names of `model`."""
    levels = dict(_levels(model, ""))
    return [_told(detail, levels) for detail in error.errors(include_url=False)]


def explained(details: Iterable[Any]) -> list[tuple[Path, str]]:
    """Return the path and message of each of pydantic's errors, without suggesting field names."""
    return [_told(detail, {}) for detail in details]


def _told(detail: ErrorDetails, levels: Mapping[str, list[str]]) -> tuple[Path, str]:
    path = tuple(part for part in detail["loc"] if part != "[key]")
    found = _found(detail["input"], path if path == detail["loc"] else ())
    match detail["type"]:
        case "missing":
            return path, "missing"
        case "extra_forbidden":
            return path, f"unknown field{_meant(path, levels)}"
        case "value_error":
            return path, f"found {found}; {detail['ctx']['error']}"
    context = detail.get("ctx", {})
    right = _RIGHT.get(detail["type"])
    return path, f"found {found}; {right.format(**context) if right else detail['msg']}"


def _found(value: Any, path: Path) -> str:
    """Return a short form of the value, without the values of variables, the content of files and passwords in URLs."""
    match value:
        case None:
            return "nothing"
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case str() if _PRIVATE & {*path} and path[-1] not in _OPEN:
            return "a value"
    text = re.sub(r"//[^/]*@", "//***@", str(value))
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def _meant(path: Path, levels: Mapping[str, list[str]]) -> str:
    name, parent = str(path[-1]), re.sub(r"\[[0-9]+]", "[]", _dotted(path[:-1]))
    if name in _ABOUT:
        return f"; {_ABOUT[name]}"
    elsewhere = [level for level, names in levels.items() if name in names]
    if elsewhere:
        return f"; {name} belongs {f'in {elsewhere[0]}' if elsewhere[0] else 'at the top'}"
    here = difflib.get_close_matches(name, levels.get(parent, []), 1, _ALIKE)
    if here:
        return f"; did you mean {here[0]}?"
    for level, names in levels.items():
        if close := difflib.get_close_matches(name, names, 1, _ALIKE_ELSEWHERE):
            return f"; did you mean {level}{'.' if level else ''}{close[0]}?"
    return ""


def _levels(model: type[BaseModel], at: str) -> Iterable[tuple[str, list[str]]]:
    """Yield the path and the field names of a model, and of the models in it."""
    yield at, list(model.model_fields)
    for name, info in model.model_fields.items():
        inner = [info.annotation, *getattr(info.annotation, "__args__", ())]
        for kind in inner:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                many = "" if kind is info.annotation else "[]"
                yield from _levels(kind, f"{at}{'.' if at else ''}{name}{many}")


def _line(path: Path, lines: Mapping[Path, int]) -> int:
    """Return the line of the path, or of its nearest known parent; 0 if none is known."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 0)


def _dotted(path: Path) -> str:
    return "".join(map(_part, path)).removeprefix(".")


def _part(part: str | int) -> str:
    """Return one part of a dotted path; quote text that could break the line or control a terminal."""
    plain = isinstance(part, str) and re.fullmatch(r"\w[\w-]*", part)
    return f".{part:.60}" if plain else f"[{part!r:.60}]"

"""Add settings to the text of a settings file, and remove them again; every other character stays as it is."""

import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from provisioner.core.errors import Invalid

Place = tuple[str, ...]
Value = str | list[str]

_HEADER = re.compile(r"\s*\[")


def line(place: Place, value: Value) -> str:
    """Return the line of a setting below its table. A JSON string or list of strings is TOML as well."""
    key = place[-1] if re.fullmatch("[A-Za-z0-9_-]+", place[-1]) else json.dumps(place[-1])
    return f"{key} = {json.dumps(value)}"


def shown(place: Place, value: Value) -> str:
    """Return the line of a setting with its table's name, as users are shown it."""
    return f"[{'.'.join(place[:-1])}] {line(place, value)}" if place[1:] else line(place, value)


def added(text: str, values: Mapping[Place, Value]) -> tuple[str, dict[Place, Any]]:
    """Return the text with the settings that it lacks, and the others with the values that they have.

    A setting follows its commented-out example, if there is one. Raises Invalid if the text has a form to which it
    cannot be added.
    """
    before = tomllib.loads(text.removeprefix("\ufeff"))
    kept = {place: found for place in values if (found := _get(before, place)) is not None}
    missing = {place: value for place, value in values.items() if place not in kept}
    end = "\r\n" if "\r\n" in text else "\n"
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += end
    for place, value in missing.items():
        lines.insert(*(_at_top if len(place) == 1 else _in_table)(lines, place, f"{line(place, value)}{end}", end))
    after = "".join(lines)
    try:
        found = tomllib.loads(after.removeprefix("\ufeff"))
    except tomllib.TOMLDecodeError:
        found = {}
    wanted = before
    for place, value in missing.items():
        wanted = _put(wanted, place, value)
    if found != wanted:
        told = "; ".join(shown(place, value) for place, value in missing.items())
        raise Invalid(f"the settings cannot be added to this file: write them yourself: {told}")
    return after, kept


def removed(text: str, values: Mapping[Place, Value]) -> str:
    """Return the text without the lines that `added` has written for these values."""
    table: Place = ()
    kept = []
    for one in text.splitlines(keepends=True):
        if header := re.fullmatch(r"\s*\[([A-Za-z0-9_.-]+)\]\s*(#.*)?\s*", one):
            table = tuple(header[1].split("."))
        ours = {line(place, value) for place, value in values.items() if place[:-1] == table}
        if one.rstrip("\r\n") not in ours:
            kept.append(one)
    return "".join(kept)


def _at_top(lines: list[str], place: Place, new: str, end: str) -> tuple[int, str]:  # noqa: ARG001 - as _in_table
    """Return where a setting outside all tables goes, and its line."""
    header = next((number for number, one in enumerate(lines) if _HEADER.match(one)), len(lines))
    example = re.compile(rf"#\s*{re.escape(place[0])}\s*=")
    for number, one in enumerate(lines[:header]):
        if example.match(one):
            return number + 1, new
    # The comment above a table stays with the table.
    while header and header < len(lines) and (not lines[header - 1].strip() or lines[header - 1].startswith("#")):
        header -= 1
    return header, new


def _in_table(lines: list[str], place: Place, new: str, end: str) -> tuple[int, str]:
    """Return where a setting of a table goes, and its line, with the table's header if there is none."""
    header = f"[{'.'.join(place[:-1])}]"
    for number, one in enumerate(lines):
        if one.partition("#")[0].strip() == header:
            return number + 1, new
    return len(lines), f"{end}{header}{end}{new}"


def _get(tree: Mapping[str, Any], place: Place) -> Any:
    for key in place[:-1]:
        tree = tree.get(key, {})
    return tree.get(place[-1])


def _put(tree: Mapping[str, Any], place: Place, value: Value) -> dict[str, Any]:
    if len(place) == 1:
        return {**tree, place[0]: value}
    return {**tree, place[0]: _put(tree.get(place[0], {}), place[1:], value)}

"""Read the forms of the pages of jobs."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from provisioner.core.errors import Invalid

#: What messages about a recipe in a form call it.
SOURCE = "recipe"


@dataclass(frozen=True)
class Inputs:
    """How a run differs from its job; None for a part that is the recipe's."""

    env: dict[str, str]
    command: str | None = None
    scale: int | None = None

    def key(self, form: str) -> str:
        """Return the idempotency key of these inputs, sent with this form.

        Sending the form twice, as a double click does, starts one run. Changed inputs make another key, because the
        browser's Back leads to the same form.
        """
        said = json.dumps([form, sorted(self.env.items()), self.command, self.scale])
        return f"page {hashlib.sha256(said.encode()).hexdigest()[:40]}"


def inputs_of(fields: Sequence[tuple[str, str]]) -> Inputs:
    """Return the inputs in the form's fields; rows without a name and a value are left out. Raises Invalid."""
    names = [value.strip() for name, value in fields if name == "name"]
    values = [value for name, value in fields if name == "value"]
    env: dict[str, str] = {}
    for name, value in zip(names, values, strict=False):
        if value and not name:
            raise Invalid(f"start: the value {value[:40]!r} has no variable: write its name, or delete the value")
        if name in env:
            raise Invalid(f"start: the variable {name[:80]} is there twice: delete one")
        if name:
            env[name] = value
    single = dict(fields)
    command, scale = unix_lines(single.get("command", "")), single.get("scale", "").strip()
    if scale and not re.fullmatch("[0-9]{1,6}", scale):
        raise Invalid(f"start: the number of machines is {scale[:40]!r}; write a whole number")
    return Inputs(env, command if command.strip() else None, int(scale) if scale else None)


def unix_lines(text: str) -> str:
    """Return the text of a form with line feeds only: browsers send CR LF (HTML, "Form submission")."""
    return text.replace("\r\n", "\n")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a recipe; line 0 means that no line is known."""

    line: int
    text: str


def problems_of(error: Invalid) -> tuple[Problem, ...]:
    """Return the problems of a recipe that `apply` refused, by line."""
    found = []
    for text in str(error).splitlines():
        place = re.match(rf"{SOURCE}(?::(\d+))?: ", text)
        line = int(place[1]) if place and place[1] else 0
        found.append(Problem(line, text[place.end() :] if place else text))
    return tuple(found)

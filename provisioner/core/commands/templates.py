"""Make the commands of a list from a command with places for values, and from the values of variables."""

import itertools
import math
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence

from provisioner.core.commands.uploads import MOST_COMMANDS
from provisioner.core.errors import Invalid

#: Places in a template: `{}` for the value, and `{#}` for the command's sequence number, from 1, as in GNU parallel
#: (parallel(1), "Replacement strings"). `${#}` is a variable of the shell.
_PLACE = re.compile(r"(?<!\$)\{(#?)\}")
_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]*")
#: The first line of a script for a shell that understands the quotes of `shlex.quote`.
_SHELL = re.compile(r"#!\s*(\S*/env\s+)?(\S*/)?(ba|da|k|z)?sh(\s|$)")


#: A here-document of a shell, up to the line that ends it; the third group is its text.
_DOCUMENT = re.compile(r"(<<-?\s*['\"\\]?(\w+)['\"]?[^\n]*\n)(.*?\n)??\t*\2(?=\n|$)", re.DOTALL)


def has_place(text: str) -> bool:
    """Return whether a command has a place for a value."""
    return any(not place[1] for place in _PLACE.finditer(text))


class Template:
    """A shell command with places for a value and a sequence number. Values are quoted for the shell."""

    def __init__(self, text: str, source: str) -> None:
        """`source` names the template in errors. Raises Invalid for a place at which a quoted value has no meaning."""
        self._script, self.source = text, source
        #: Texts and places in turn: a place is "" for a value and "#" for a sequence number.
        self._parts = _PLACE.split(text)
        places = self._parts[1::2]
        self.takes_value = "" in places
        self.takes_any = bool(places)
        if self.takes_value:
            self._check_script("the value of {} is quoted for a shell")
            if quoted := _quoted_place(text):
                raise Invalid(
                    f"{source}: {{}} is within {quoted}, where the shell may execute parts of the value: write {{}} "
                    "outside, without quotes around it, and $(…) in place of backticks"
                )

    def filled(self, number: int, value: str = "") -> str:
        """Return the command with this value and this sequence number."""
        parts = self._parts
        if len(parts) == 1:
            return parts[0]
        made = parts.copy()
        quoted = shlex.quote(value)
        for at in range(1, len(parts), 2):
            made[at] = str(number) if parts[at] else quoted
        return "".join(made)

    def exporting(self, number: int, variables: Mapping[str, str]) -> str:
        """Return the command with this sequence number, after a line that exports these variables."""
        words = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
        command = self.filled(number)
        if not words:
            return command
        first, _, rest = command.partition("\n") if command.startswith("#!") else ("", "", command)
        parts = [*([first, "\n"] if first else []), "export ", words, "\n" if "\n" in rest else "; ", rest]
        return "".join(parts)

    def check_exports(self) -> None:
        """Raise Invalid if the command is not for a shell, so that no `export` can stand before it, or has a `{}`."""
        self._check_script("the variables are set by a line for a shell")
        if self.takes_value:
            raise Invalid(f"{self.source}: {{}} has no value here: use the variables, or give values for {{}}")

    def _check_script(self, why: str) -> None:
        if self._script.startswith("#!") and not _SHELL.match(self._script):
            first = self._script.partition("\n")[0][:80]
            raise Invalid(f"{self.source}: {why}, but the command begins with {first!r}: call the program from sh")


def _quoted_place(text: str) -> str:
    """Return the construct around a `{}` in which the shell does not treat the value's quotes as quotes, or ""."""
    if any(has_place(document[3] or "") for document in _DOCUMENT.finditer(text)):
        return "a here-document"
    text = _DOCUMENT.sub(r"\1", text)
    #: Where the text is within: `"`, or `(` of a command in double quotes or of a subshell.
    within: list[str] = []
    at = 0
    while at < len(text):
        here, double = text[at], within[-1:] == ['"']
        if here == "`" or (here == "'" and not double):
            inner = text[at + 1 :].partition(here)[0]
            if has_place(inner):
                return "backticks" if here == "`" else "single quotes"
            at += len(inner) + 1
        elif here == "\\":
            at += 1
        elif here == '"':
            within.pop() if double else within.append(here)
        elif text.startswith("$(", at) or (here == "(" and not double):
            within.append("(")
            at += here == "$"
        elif here == ")" and within[-1:] == ["("]:
            within.pop()
        elif here == "#" and not double and (not at or text[at - 1] in " \t\n;"):
            comment = text[at:].partition("\n")[0]
            if has_place(comment):
                return "a comment"
            at += len(comment)
        elif double and (place := _PLACE.match(text, at)) and not place[1]:
            return "double quotes"
        at += 1
    return ""


def from_values(template: Template, values: Iterable[str]) -> Iterator[str]:
    """Yield a command for each value."""
    for number, value in enumerate(values, 1):
        yield template.filled(number, value)


def from_variables(template: Template, several: Iterable[Mapping[str, str]]) -> Iterator[str]:
    """Yield a command for each set of variables. Raises Invalid for a variable that a shell cannot have."""
    template.check_exports()
    for number, variables in enumerate(several, 1):
        for name, value in variables.items():
            check_name(name)
            if "\0" in value:
                raise Invalid(f"variable {name} of command {number - 1}: the value must not contain a NUL character")
        yield template.exporting(number, variables)


def check_name(name: str) -> None:
    """Raise Invalid if a shell cannot have a variable of this name."""
    if not _NAME.fullmatch(name):
        raise Invalid(f"{name!r} is no variable: use letters, digits and _ in a variable's name, and no digit first")


class Product:
    """All combinations of the values of several variables; the last variable changes fastest."""

    def __init__(self, axes: Sequence[str]) -> None:
        """Each axis is `NAME=VALUE,VALUE…`. Raises Invalid."""
        self._axes: dict[str, list[str]] = {}
        for axis in axes:
            name, equals, values = axis.partition("=")
            if not equals:
                raise Invalid(f"{axis!r} has no values: write NAME=VALUE,VALUE")
            check_name(name)
            if name in self._axes:
                raise Invalid(f"{name} is given twice: write all its values in one place, as {name}=VALUE,VALUE")
            self._axes[name] = values.split(",")
            if "" in self._axes[name]:
                raise Invalid(f"{axis!r} has an empty value: write NAME=VALUE,VALUE, without other commas")
        if len(self) > MOST_COMMANDS:
            many = f"{len(self):,} combinations of values"
            raise Invalid(f"{many}; a list has at most {MOST_COMMANDS:,} commands: give fewer values")

    def __len__(self) -> int:
        return math.prod(map(len, self._axes.values()))

    def __iter__(self) -> Iterator[Mapping[str, str]]:
        for values in itertools.product(*self._axes.values()):
            yield dict(zip(self._axes, values, strict=True))

"""Types for plain values in a recipe: durations, sizes, names, paths."""

import posixpath
import re
import zoneinfo
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    PlainSerializer,
)

from provisioner.core.recipe import duration, kinds
from provisioner.core.recipe.jobs import SCHEMA
from provisioner.core.recipe.kinds import SCALAR, Kind, between, matching, rule
from provisioner.core.recipe.schedules import schedule

#: Maximum number of bytes of one argument or variable of a new process (MAX_ARG_STRLEN of execve(2)), without the final
#: NUL.
LONGEST_ARGUMENT = (128 << 10) - 1


#: The longest duration, in seconds: 30 days. No run should take longer, so a longer duration is likely a typing error.
_LONGEST = 30 * 86400.0


#: The spellings of booleans in YAML 1.1, except `y` and `n` (yaml.org/type/bool.html).
_YES = tuple(writing for word in ("true", "yes", "on") for writing in (word, word.title(), word.upper()))


NO = tuple(writing for word in ("false", "no", "off") for writing in (word, word.title(), word.upper()))


def _flag(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if value not in (*_YES, *NO):
        raise ValueError("write true or false")
    return value in _YES


def _count(value: Any) -> Any:
    if isinstance(value, str | int) and not re.fullmatch("[0-9]{1,9}", str(value)):
        raise ValueError("write a whole number, 0 or more")
    return value


def _text(text: str) -> str:
    if "\0" in text:
        raise ValueError("it must not contain a NUL character")
    return text


def unix_lines(text: str) -> str:
    """Return a script with LF in place of CRLF, as shells and the kernel need it.

    YAML itself converts the CRLF of a file, but not `\\r\\n` in a JSON string; `#!/bin/bash\\r` names no program.
    """
    return text.replace("\r\n", "\n")


def _argument(text: str) -> str:
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise ValueError("an unpaired surrogate is not a valid character") from error
    if size > LONGEST_ARGUMENT:
        raise ValueError("too long: Linux allows at most 128 KiB in one argument or variable")
    return text


def _variable_value(value: Any) -> Any:
    if value is None:
        raise ValueError('write "" for an empty value')
    return value


def shell_line(text: str, *, stored: bool = False) -> str:
    """Return a shell line with Unix line ends; raises ValueError with the correct form.

    `stored`: an earlier version accepted the line, so checks that are only for `apply` are skipped.
    """
    if not text.strip():
        raise ValueError("write the shell line to run")
    line = _argument(_text(unix_lines(text)))
    return line if stored else _no_option(line)


def _no_option(text: str) -> str:
    if text.lstrip().startswith("-"):
        raise ValueError("the shell would read a command that begins with - as an option; begin with the program")
    return text


def _path(text: str) -> str:
    if not text or not text.isprintable() or set(text) & set(":,"):
        raise ValueError("a path must not be empty or contain ':', ',' or control characters")
    if ".." in text.split("/"):
        raise ValueError("a path must not contain '..'")
    # POSIX does not define two leading slashes; here they mean one.
    path = posixpath.normpath(re.sub("^//+", "/", text))
    if path == "/" or re.match("/(proc|sys|dev)(/|$)", path):
        raise ValueError("a job must not use /, /proc, /sys or /dev; choose another folder")
    return path


def _absolute(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError("write an absolute path, such as /home/jovyan/code")
    return path


def refuse_shell_words(path: str) -> str:
    """Return the path; raises ValueError if it begins with `~` or a variable, because no shell expands them."""
    if word := re.match(r"~[^/]*|\$[^/]*", path):
        raise ValueError(
            f"{word[0]} is not expanded in a recipe; write an absolute path, such as /home/jovyan/x, or a relative one"
        )
    return path


def _file(path: str) -> str:
    if path.endswith("/"):
        raise ValueError("write the path of a file, not of a folder")
    return path


def _relative(path: str) -> str:
    if path.startswith(("/", "~")) or path == ".":
        raise ValueError("write a path below HOME, without HOME itself")
    return path


def secret_location(text: str, *, variable: bool) -> str:
    """Return the name of a variable or the path of a file; raises ValueError if it is invalid."""
    if variable:
        if not re.fullmatch(_VARIABLE, text):
            raise ValueError(_VARIABLE_RIGHT)
        return text
    path = _path(_file(text))
    return path if path.startswith("/") else _relative(path)


def _timezone(text: str) -> str:
    # libc uses UTC for an unknown name, without an error.
    right = "write a time zone of the IANA database, such as Europe/Berlin"
    if not re.fullmatch(_ZONE_NAME, text):
        raise ValueError(right)
    try:
        zoneinfo.ZoneInfo(text)
    except (zoneinfo.ZoneInfoNotFoundError, OSError, ValueError) as error:
        raise ValueError(right) from error
    return text


def _schedule(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return schedule.checked(value) if value.strip() else None


def _stepping(text: str | None) -> str | None:
    return None if text is None else schedule.stepping(text)


def _seconds(value: Any, at_most: float) -> float:
    seconds = duration.seconds(_written(value))
    if seconds > at_most:
        raise ValueError(f"write at most {duration.text(at_most)}")
    return seconds


def _written(value: Any) -> str:
    # Numbers in a YAML or JSON document arrive as text. Numbers in a dump, or from Python, arrive as numbers.
    whole = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if whole or isinstance(value, str) else ""


def _duration_schema(*words: str) -> dict[str, Any]:
    return {"type": ["string", "integer"], "pattern": f"^({'|'.join((duration.PATTERN, *words))})$", "minimum": 0}


def lasting(at_most: float = _LONGEST) -> Kind:
    """Return the kind for a duration: text in documents, seconds in the model."""
    return Kind(lambda value: _seconds(value, at_most), _duration_schema(), first=True)


def _seconds_or_never(value: Any) -> float | None:
    try:
        return None if value == "never" else _seconds(value, _LONGEST)
    except ValueError as error:
        raise ValueError(f"{error}, or never") from error


def _or_now(value: Any) -> float:
    try:
        return 0.0 if value == "now" or duration.exact(_written(value)) == 0 else _seconds(value, _LONGEST)
    except ValueError as error:
        raise ValueError(f"{error}, or now") from error


#: Seconds, dumped as text such as `1h`, so that a dump can be loaded again.
Duration = Annotated[float, PlainSerializer(duration.text, return_type=str)]


#: Seconds; None for `never`.
DurationOrNever = Annotated[
    float | None,
    Kind(_seconds_or_never, _duration_schema("never"), first=True),
    PlainSerializer(lambda value: "never" if value is None else duration.text(value), return_type=str),
]


#: Seconds; 0 for `now`.
DurationOrNow = Annotated[
    float,
    Kind(_or_now, _duration_schema("now"), first=True),
    PlainSerializer(lambda value: duration.text(value) if value else "now", return_type=str),
]


#: The largest amount of US dollars.
_MOST_DOLLARS = 1_000_000
_DOLLARS = r"[0-9]{1,7}(\.[0-9]{1,6})?"


def _dollars(value: Any) -> float:
    # A dump has the amount as text, and Python callers may pass a number.
    text = str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
    if not re.fullmatch(_DOLLARS, text) or not 0 < float(text) <= _MOST_DOLLARS:
        raise ValueError(f"write US dollars as a number above 0 and at most {_MOST_DOLLARS}, such as 2.50")
    return float(text)


def dollars_or_never(value: Any) -> float | None:
    """Return an amount of US dollars; None for `never`. Raises ValueError."""
    try:
        return None if value == "never" else _dollars(value)
    except ValueError as error:
        raise ValueError(f"{error}, or never") from error


#: US dollars; None for `never`: no limit.
DollarsOrNever = Annotated[
    float | None,
    Kind(
        dollars_or_never,
        {"type": ["string", "number"], "pattern": f"^({_DOLLARS}|never)$", "exclusiveMinimum": 0},
        first=True,
    ),
    PlainSerializer(lambda value: "never" if value is None else f"{value:.6f}".rstrip("0").rstrip("."), str),
]


#: Bytes, dumped as text such as `200Gi`.
Size = Annotated[int, PlainSerializer(kinds.size_text, return_type=str)]


Text = Annotated[str, Kind(_text, {"type": SCALAR})]


#: A shell script, or a script with its interpreter in a `#!` line.
Script = Annotated[Text, AfterValidator(unix_lines)]


Flag = Annotated[bool, Kind(_flag, {"enum": [True, False, *_YES, *NO]}, first=True)]


Count = Annotated[
    int, Kind(_count, {"type": ["integer", "string"], "pattern": "^[0-9]{1,9}$", "minimum": 0}, first=True)
]


#: An exit code of a failed process.
ExitCode = Annotated[int, between(1, 255, "an exit code")]


Name = Annotated[
    str, matching("[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", "use letters, digits and inner hyphens, at most 63")
]


_IDENTITY = "[a-z0-9]([a-z0-9-]{0,37}[a-z0-9])?"


OWNER = f"({_IDENTITY}/)?{_IDENTITY}"


OwnerName = Annotated[
    str,
    matching(OWNER, "write org/identity or identity: lower-case letters, digits, hyphens"),
]


#: Docker's reference grammar. No reference begins with a hyphen, so no command reads one as an option.
ImageUri = Annotated[
    str,
    matching(
        r"([A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]+)?/)?[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*"
        r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?",
        "write an image as docker pull takes it: [host/]name[:version]",
    ),
]


InstanceType = Annotated[str, matching(r"[a-z][a-z0-9-]*\.[a-z0-9-]+", "write an EC2 instance type, such as g5.xlarge")]


Zone = Annotated[
    str, matching("[a-z]{2}(-[a-z]+)+-[0-9](-[a-z]+-[0-9])?[a-z]", "write an availability zone, such as us-east-1a")
]


_VARIABLE, _VARIABLE_RIGHT = (
    "[A-Za-z_][A-Za-z0-9_]*",
    "use letters, digits and _ in a variable's name, and no digit first",
)


VariableName = Annotated[str, matching(_VARIABLE, _VARIABLE_RIGHT)]


#: Any text that a process accepts; numbers and booleans keep the spelling of the document.
VariableValue = Annotated[
    str,
    AfterValidator(_text),
    AfterValidator(_argument),
    Kind(_variable_value, {"type": SCALAR}, first=True),
]


#: A path that begins with neither `~` nor a variable.
no_shell_words = rule(refuse_shell_words)


#: A normalized path, without `..` and doubled slashes.
Path = Annotated[str, Kind(_path, {"type": SCALAR, "minLength": 1})]


AbsolutePath = Annotated[str, AfterValidator(_path), Kind(_absolute, {"type": "string", "pattern": "^/"})]


#: The path of a file, relative to HOME.
FilePath = Annotated[
    str,
    AfterValidator(_file),
    AfterValidator(_path),
    Kind(_relative, {"type": "string", "pattern": "^[^/~]"}),
    no_shell_words,
]


#: A path or name in Parameter Store; or a name or ARN in Secrets Manager, optionally with a key of the secret's JSON.
SecretName = Annotated[
    str,
    matching(
        r"ssm:((/[A-Za-z0-9_.-]+)+|[A-Za-z0-9_.-]+)|secretsmanager:[A-Za-z0-9/_+=.@:-]{1,2048}(#[A-Za-z0-9/_+=.@:-]+)?",
        "write ssm:/path or ssm:name of a parameter, or secretsmanager:id#key (without #key: the whole secret)",
    ),
]


_ZONE_NAME = "[A-Z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}"


Timezone = Annotated[str, Kind(_timezone, {"type": "string", "pattern": f"^{_ZONE_NAME}$"})]


#: A checked schedule; None for null or an empty text: then the job starts only when it is triggered.
Schedule = Annotated[str | None, rule(_stepping), Kind(_schedule, {"type": ["string", "null"]}, first=True)]


#: The word for no reservation.
UNRESERVED = "none"
Reservation = Annotated[
    str,
    matching(
        rf"({UNRESERVED}|cr-[a-z0-9]+|arn:aws[a-z-]*:resource-groups:[a-z0-9-]+:[0-9]{{12}}:group/[A-Za-z0-9_.-]+)",
        "write a reservation's id, such as cr-0a1b2c3d4e5f60718, the ARN of a group of reservations, or none",
    ),
]
Subnet = Annotated[str, matching("subnet-[a-z0-9-]+", "write a subnet's id, such as subnet-0a1b2c")]


def _known_schema(version: str) -> str:
    if version != SCHEMA:
        raise ValueError(f"did you mean {SCHEMA}? Recipes of other schemas are not supported")
    return version


SchemaVersion = Annotated[Text, rule(_known_schema)]

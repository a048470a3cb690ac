"""The kinds of field that a recipe has: each says what it takes, and what would be right.

A document's scalars come as text (see `source`), so the JSON Schema of a kind takes the other
scalars too where their text would do.
"""

import json
import posixpath
import re
import zoneinfo
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    ValidationInfo,
)
from pydantic_core import CoreSchema
from pydantic_core.core_schema import with_info_after_validator_function, with_info_before_validator_function

from provisioner.core import duration, schedule, size

#: Bytes of one string that Linux hands to a new process (MAX_ARG_STRLEN of execve(2)), less the final NUL.
LONGEST_ARGUMENT = (128 << 10) - 1
#: A month: longer than any run should be, short enough that a slip of the keyboard has an end.
_LONGEST = 30 * 86400.0
_SCALAR = ["string", "number", "boolean"]
#: YAML 1.1's truths, but for a lone `y` and `n` (yaml.org/type/bool.html).
_YES = tuple(writing for word in ("true", "yes", "on") for writing in (word, word.title(), word.upper()))
NO = tuple(writing for word in ("false", "no", "off") for writing in (word, word.title(), word.upper()))


#: The pydantic context to validate a stored recipe: checks that are only for `apply` are skipped.
STORED: Mapping[str, bool] = {"stored": True}


def is_stored(info: ValidationInfo) -> bool:
    """Return whether the value comes from a stored recipe, which an earlier `apply` has accepted."""
    return bool(info.context and info.context.get("stored"))


class Part(BaseModel):
    """A group of fields: it takes no others, and does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, eq=False)
class Kind:
    """What a field accepts beyond its type: `check` returns the value, or raises ValueError with what is right."""

    check: Callable[[Any], Any]
    #: The JSON Schema; empty: that of the type.
    schema: dict[str, Any] = field(default_factory=dict)
    #: Further JSON Schemas that a value may match.
    also: tuple[dict[str, Any], ...] = ()
    #: Run the check on the value as written, before its type converts it.
    first: bool = False
    #: Run the check only for `apply`: recipes stored before the check existed must still load.
    on_apply: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def checked(value: Any, info: ValidationInfo) -> Any:
            return value if self.on_apply and is_stored(info) else self.check(value)

        wrap = with_info_before_validator_function if self.first else with_info_after_validator_function
        return wrap(checked, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        own = self.schema or handler(schema)
        return {"anyOf": [own, *self.also]} if self.also else own


def rule(check: Callable[[Any], Any], *, first: bool = False) -> Kind:
    """A check that was added to a field after recipes had been stored.

    `apply` refuses a recipe that fails the check. Stored recipes keep running, and `jobs` marks them. Each check that
    this version adds to an existing field must be a `rule`, or must call `is_stored`.
    """
    return Kind(check, first=first, on_apply=True)


def matching(pattern: str, right: str) -> Kind:
    """Text that fits `pattern` whole."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(right)
        return text

    return Kind(check, {"type": _SCALAR, "pattern": f"^{pattern}$", "description": right})


def later(
    reason: str,
    *harmless: Any,
    asks_nothing: Callable[[Any], bool] = lambda _: False,
    also: tuple[dict[str, Any], ...] = (),
) -> Kind:
    """A field that this version does not support; it refuses all values except those that change nothing.

    These are null, the values in `harmless`, and values for which `asks_nothing` returns True. `also` has the JSON
    Schemas of the latter.
    """
    accepted = [None, *harmless]

    def check(value: Any) -> None:
        if value not in accepted and not asks_nothing(value):
            raise ValueError(f"not in this version: {reason}")

    return Kind(check, {"enum": accepted, "description": f"Not in this version: {reason}"}, also, first=True)


def or_nothing(empty: Any) -> Kind:
    """A field that may be written as null, which means `empty`."""
    return Kind(lambda value: empty if value is None else value, also=({"type": "null"},), first=True)


#: What another server filled in, and what comes back with the recipe that it gave.
Ignored = Annotated[None, Kind(lambda _: None, {"description": "Read-only: ignored."}, first=True)]


def picked(key: str, ignorable: frozenset[str], otherwise: str) -> Kind:
    """Text, or a mapping that holds it under `key` and nothing else of meaning."""

    def check(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if not {key} <= value.keys() <= {key} | ignorable:
            raise ValueError(otherwise)
        return value[key]

    properties: dict[str, Any] = {name: {} for name in sorted(ignorable)} | {key: {"type": _SCALAR}}
    mapping = {"type": "object", "properties": properties, "required": [key], "additionalProperties": False}
    return Kind(check, {"anyOf": [{"type": _SCALAR}, mapping]}, first=True)


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
        raise ValueError("it may not hold a NUL character")
    return text


def unix_lines(text: str) -> str:
    """Return a script with LF in place of CRLF, as shells and the kernel need it.

    YAML itself converts the CRLF of a file, but not `\\r\\n` in a JSON string; `#!/bin/bash\\r` names no program.
    """
    return text.replace("\r\n", "\n")


def _argument(text: str) -> str:
    if len(text.encode()) > LONGEST_ARGUMENT:
        raise ValueError("it may not be longer than the 128 KiB that Linux hands to a process")
    return text


def _variable_value(value: Any) -> Any:
    if value is None:
        raise ValueError('write "" for an empty value')
    return value


def _command(value: Any) -> Any:
    listed = isinstance(value, list)
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            listed = isinstance(json.loads(value), list)
        except ValueError:
            listed = False  # The shell's own `[`.
    if listed:
        raise ValueError("not in this version: a list of commands; write one shell line")
    if isinstance(value, str) and not value.strip():
        raise ValueError("write the shell line to run")
    return value


def _no_option(text: str) -> str:
    if text.lstrip().startswith("-"):
        raise ValueError("the shell takes a command that begins with - for its own options; begin with the program")
    return text


def _path(text: str) -> str:
    if not text or not text.isprintable() or set(text) & set(":,"):
        raise ValueError("a path may not be empty, nor hold ':', ',' or control characters")
    if ".." in text.split("/"):
        raise ValueError("a path may not hold '..'")
    # POSIX leaves open what two leading slashes mean; here they are one.
    path = posixpath.normpath(re.sub("^//+", "/", text))
    if path == "/" or re.match("/(proc|sys|dev)(/|$)", path):
        raise ValueError("not a folder that a job may take over")
    return path


def _absolute(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError("write an absolute path, such as /home/jovyan/code")
    return path


def repository_name(url: str) -> str:
    """The folder that git itself would clone `url` into."""
    path = re.split("[?#]", url)[0].rstrip("/").removesuffix("/.git")
    return re.split("[/:]", path)[-1].removesuffix(".git")


def is_ssh(url: str) -> bool:
    return bool(re.match(r"ssh://|[^/]+@[^/]+:", url))


def _repository_url(text: str) -> str:
    # No user and no host begins with a hyphen: ssh would take it for an option.
    user, path = r"[A-Za-z0-9_][A-Za-z0-9._-]*", r"[^\s-]\S*"
    host = r"([A-Za-z0-9_][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])"
    if pip := re.match(r"git\+([a-z]+://)", text):
        raise ValueError(f"git+{pip[1]} is a URL for pip, not for git: write {pip[1]}")
    if re.match(r"ssh://[^/@]*:[^/@]*@|(https?|git)://[^/@]*@", text):
        raise ValueError(
            "a recipe holds no credentials; leave out what is before the @, and name a secret as git.credential"
        )
    plain = re.fullmatch(r"(https?|git)://[^/\s]+/\S+|file:///\S+", text)
    ssh = re.fullmatch(rf"ssh://({user}@)?{host}(:[0-9]{{1,5}})?/{path}|{user}@{host}:{path}", text)
    if not (plain or ssh) or not text.isprintable():
        raise ValueError(
            "write an http(s), git, ssh or file URL, or git@host:path; an IPv6 address as the host has brackets"
        )
    if repository_name(text) in ("", ".", ".."):
        raise ValueError("the URL does not end in a repository's name")
    return text


def refuse_shell_words(path: str) -> str:
    """Return the path; raises ValueError if it begins with `~` or a variable, which nothing expands here."""
    if word := re.match(r"~[^/]*|\$[^/]*", path):
        raise ValueError(
            f"{word[0]} is not expanded in a recipe; write an absolute path, such as /home/jovyan/x, or a relative one"
        )
    return path


def _reference(text: str) -> str:
    """Raise ValueError for names that git has only in a clone, such as `origin/main`."""
    if text in ("HEAD", "@"):
        raise ValueError("leave reference out for the default branch, or name a branch, or a tag with reference_type")
    if tag := re.fullmatch("refs/tags/(.+)", text):
        raise ValueError(f"write {tag[1]}, with reference_type: tag")
    if branch := re.fullmatch("(?:refs/heads/|(?:(?:refs/)?remotes/)?origin/)(.+)", text):
        raise ValueError(f"write {branch[1]}: reference_type says that it is a branch")
    if text.startswith("refs/"):
        raise ValueError("write a branch or a tag, or the commit's id with reference_type: commit")
    return text


def _depth(value: Any) -> Any:
    if isinstance(value, bool) or not re.fullmatch("full|[1-9][0-9]{0,8}", str(value)):
        raise ValueError("write a number of commits, 1 or more, or full for all commits, branches and tags")
    return str(value)


def _file(path: str) -> str:
    if path.endswith("/"):
        raise ValueError("write the path of a file, not of a folder")
    return path


def _relative(path: str) -> str:
    if path.startswith(("/", "~")) or path == ".":
        raise ValueError("write a path below HOME, without HOME itself")
    return path


def secret_location(text: str, *, variable: bool) -> str:
    """The name of a variable, or the path of a file; raises ValueError."""
    if variable:
        if not re.fullmatch(_VARIABLE, text):
            raise ValueError(_VARIABLE_RIGHT)
        return text
    path = _path(_file(text))
    return path if path.startswith("/") else _relative(path)


def _timezone(text: str) -> str:
    # libc would take a name it does not know for UTC, and say nothing.
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
    # Numbers of a YAML or JSON document are text here; those of a dump and of Python are numbers.
    whole = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if whole or isinstance(value, str) else ""


def _duration_schema(*words: str) -> dict[str, Any]:
    return {"type": ["string", "integer"], "pattern": f"^({'|'.join((duration.PATTERN, *words))})$", "minimum": 0}


def lasting(at_most: float = _LONGEST) -> Kind:
    """A duration: text in documents, seconds inside."""
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


def sized(at_least: str, at_most: str) -> Kind:
    """A size: text in documents, bytes inside."""

    def check(value: Any) -> int:
        found = size.in_bytes(value if isinstance(value, str) else "")
        if not size.in_bytes(at_least) <= found <= size.in_bytes(at_most):
            raise ValueError(f"write {at_least} to {at_most}")
        return found

    return Kind(check, {"type": "string", "pattern": f"^{size.PATTERN}$"}, first=True)


def between(least: int, most: int, what: str) -> Kind:
    """A whole number, written as one."""

    def check(value: Any) -> int:
        if isinstance(value, bool) or not re.fullmatch("[0-9]{1,9}", str(value)) or not least <= int(value) <= most:
            raise ValueError(f"write {what}, {least} to {most}")
        return int(value)

    return Kind(
        check, {"type": ["integer", "string"], "pattern": "^[0-9]{1,9}$", "minimum": least, "maximum": most}, first=True
    )


#: As a document writes it: what is loaded again is what was dumped.
Duration = Annotated[float, PlainSerializer(duration.text, return_type=str)]
#: None is `never`.
DurationOrNever = Annotated[
    float | None,
    Kind(_seconds_or_never, _duration_schema("never"), first=True),
    PlainSerializer(lambda value: "never" if value is None else duration.text(value), return_type=str),
]

#: 0 is `now`.
DurationOrNow = Annotated[
    float,
    Kind(_or_now, _duration_schema("now"), first=True),
    PlainSerializer(lambda value: duration.text(value) if value else "now", return_type=str),
]
#: As a document writes it.
Size = Annotated[int, PlainSerializer(size.text, return_type=str)]

Text = Annotated[str, Kind(_text, {"type": _SCALAR})]
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
#: As Docker's reference grammar has it. No reference begins with a hyphen: none is ever taken for an option.
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
#: Any text that one process can be given; numbers and truths keep the writing they came in.
VariableValue = Annotated[
    str,
    AfterValidator(_text),
    AfterValidator(_argument),
    Kind(_variable_value, {"type": _SCALAR}, first=True),
]
Command = Annotated[
    str,
    rule(_no_option),
    AfterValidator(unix_lines),
    AfterValidator(_text),
    AfterValidator(_argument),
    Kind(_command, {"type": _SCALAR, "minLength": 1}, first=True),
]
#: A path that begins with neither `~` nor a variable.
no_shell_words = rule(refuse_shell_words)
#: Normalized: no `..`, no doubled slash.
Path = Annotated[str, Kind(_path, {"type": _SCALAR, "minLength": 1})]
AbsolutePath = Annotated[str, AfterValidator(_path), Kind(_absolute, {"type": "string", "pattern": "^/"})]
#: Of a file below HOME.
FilePath = Annotated[
    str,
    AfterValidator(_file),
    AfterValidator(_path),
    Kind(_relative, {"type": "string", "pattern": "^[^/~]"}),
    no_shell_words,
]
RepositoryUrl = Annotated[
    str, Kind(_repository_url, {"type": "string", "pattern": "^((https?|git|ssh|file)://|[^/]+@[^/]+:)"})
]
#: Parameter Store's paths, and names outside of any; Secrets Manager's names and ARNs with a key of the secret's JSON.
SecretName = Annotated[
    str,
    matching(
        r"ssm:((/[A-Za-z0-9_.-]+)+|[A-Za-z0-9_.-]+)|secretsmanager:[A-Za-z0-9/_+=.@:-]{1,2048}(#[A-Za-z0-9/_+=.@:-]+)?",
        "write ssm:/path or ssm:name of a parameter, or secretsmanager:id#key (without #key: the whole secret)",
    ),
]
_ZONE_NAME = "[A-Z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}"
Timezone = Annotated[str, Kind(_timezone, {"type": "string", "pattern": f"^{_ZONE_NAME}$"})]
#: None, or nothing written: the job starts by triggers alone.
Schedule = Annotated[str | None, rule(_stepping), Kind(_schedule, {"type": ["string", "null"]}, first=True)]
Subnet = Annotated[str, matching("subnet-[a-z0-9-]+", "write a subnet's id, such as subnet-0a1b2c")]
#: What git-check-ref-format(1) allows, roughly, and never an option.
Reference = Annotated[
    str,
    matching(r"(?!-)(?!.*(\.\.|@\{))[^\s\x00-\x20~^:?*\[\\\x7f]+", "write a branch, a tag or a commit"),
    rule(_reference),
]
#: A number of commits to clone, or `full`.
Depth = Annotated[
    str,
    Kind(
        _depth,
        {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": "^(full|[1-9][0-9]{0,8})$"}]},
        first=True,
    ),
]

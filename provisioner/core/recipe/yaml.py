"""Parse YAML (JSON is a subset of it) into plain values, and record the line of each value.

Scalars except null stay the text that the user wrote; the type of the field decides whether the text is a number or
a boolean. So `reference: 2024`, `VERSION: 1.10` and `COUNTRY: no` keep their text.

CR, LF or CRLF ends a line, as in editors. In YAML 1.1, which PyYAML reads, U+0085, U+2028 and U+2029 also end a line
and would be folded to a space. This module treats them as text, like YAML 1.2 (section 5.4) and JSON.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from provisioner.core.errors import Invalid

Path = tuple[str | int, ...]

#: Maximum number of bytes of a document: ten times the longest recipe with a start script that we have seen.
LARGEST = 256 << 10
#: Maximum number of values and levels of a document, before and after its anchors are expanded: nine lines with anchors
#: can expand to a gigabyte. A list may have 10,000 commands.
MOST_VALUES = 20_000
DEEPEST = 20

_STANDARD = "tag:yaml.org,2002:"
_TYPES = ("map", "seq", "str", "null", "bool", "int", "float", "timestamp", "value")
_TAGS = frozenset(_STANDARD + name for name in _TYPES)


#: Characters that are line ends in YAML 1.1 but not in YAML 1.2. A private-use character replaces each before PyYAML
#: parses the text.
_TEXT_BREAKS = "\x85\u2028\u2029"
#: Characters that JSON allows unescaped in a string, and that PyYAML rejects or changes.
_UNLIKE_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


@dataclass(frozen=True)
class Document:
    """A parsed document of mappings, lists, strings and None, with the line of each value by its path."""

    value: Any
    lines: Mapping[Path, int]


def read(text: str | bytes, source: str) -> Document:
    """Return the only document in `text`; raises Invalid with `source` and the line number."""
    text = _as_yaml(_decoded(text, source))
    stand_ins = _stand_ins(text)
    try:
        node = _Loader(text.translate(stand_ins)).get_single_node()
        lines: dict[Path, int] = {}
        walk = _Walk(lines, {ord(each): chr(breaks) for breaks, each in stand_ins.items()})
        return Document(walk.value(node, (), 0) if node else None, lines)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise Invalid(f"{source}:{line}: {_explained(error)}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Invalid(f"{source}:{line}: the character U+{ord(text[error.position]):04X} is not allowed") from error


def _as_yaml(text: str) -> str:
    """Return the text with tabs and the characters of _UNLIKE_YAML replaced, so that PyYAML reads JSON correctly."""
    text = text.removeprefix("\ufeff")
    if not text.lstrip(" \t\r\n").startswith(("{", "[")):
        return text
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        # The text is YAML's flow style, or invalid JSON. Tabs may indent JSON but not YAML, so replace them by spaces.
        # In a string of several lines, indentation has no effect.
        return re.sub(r"^[ \t]+", lambda indent: " " * len(indent[0]), text, flags=re.MULTILINE)
    # In JSON, tabs occur only between values, and the characters of _UNLIKE_YAML only in strings.
    return _UNLIKE_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", text.replace("\t", " "))


def _stand_ins(text: str) -> dict[int, str]:
    """Return an unused private-use character for each character of _TEXT_BREAKS in the text."""
    present = [each for each in _TEXT_BREAKS if each in text]
    free = (chr(code) for code in range(0xE000, 0xF8FF) if chr(code) not in text)
    return dict(zip(map(ord, present), free, strict=False))


def _decoded(text: str | bytes, source: str) -> str:
    if len(text) > LARGEST:
        raise Invalid(f"{source}: larger than {LARGEST >> 10} KiB; move data out of the recipe, such as to S3")
    if isinstance(text, str):
        return text
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise Invalid(f"{source}:{line}: not UTF-8 text: byte 0x{text[error.start]:02x}") from error


class _Loader(yaml.SafeLoader):
    """Composes nodes; raises MarkedYAMLError at the first node that exceeds MOST_VALUES or DEEPEST."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._count = 0
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._count += 1
        self._depth += 1
        if self._count > MOST_VALUES:
            raise yaml.MarkedYAMLError(problem=f"more than {MOST_VALUES} values", problem_mark=self.get_mark())
        if self._depth > DEEPEST:
            raise yaml.MarkedYAMLError(problem=f"nested deeper than {DEEPEST} levels", problem_mark=self.get_mark())
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _Walk:
    """Converts nodes to values, records their lines, and counts the values that anchors expand to."""

    def __init__(self, lines: dict[Path, int], breaks: Mapping[int, str]) -> None:
        """`breaks` maps the code of each private-use character to the character of _TEXT_BREAKS that it replaced."""
        self._lines = lines
        self._breaks = breaks
        self._values = 0
        self._characters = 0

    def value(self, node: yaml.Node, path: Path, depth: int) -> Any:
        self._lines.setdefault(path, node.start_mark.line + 1)
        self._values += 1
        if self._values > MOST_VALUES or depth > DEEPEST:
            raise _wrong(node, f"its anchors expand to more than {MOST_VALUES} values or {DEEPEST} levels")
        if node.tag not in _TAGS:
            raise _wrong(node, f"the tag {node.tag.replace(_STANDARD, '!!')!r:.60} is not known here")
        match node:
            case yaml.MappingNode():
                return dict(self._pairs(node, path, depth))
            case yaml.SequenceNode():
                return [self.value(item, (*path, index), depth + 1) for index, item in enumerate(node.value)]
            case _:
                return self._scalar(node)

    def _pairs(self, node: yaml.MappingNode, path: Path, depth: int) -> Iterator[tuple[str, Any]]:
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            if key_node.tag == f"{_STANDARD}merge":
                raise _wrong(key_node, "merge keys (<<) are not supported; write the fields out")
            key = self._scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if key is None:
                raise _wrong(key_node, "a key must be a word")
            if key in seen:
                raise _wrong(key_node, f"duplicate key {key!r:.60}, first on line {seen[key]}")
            seen[key] = key_node.start_mark.line + 1
            self._lines[(*path, key)] = seen[key]
            yield key, self.value(value_node, (*path, key), depth + 1)

    def _scalar(self, node: yaml.Node) -> str | None:
        if node.tag == f"{_STANDARD}null":
            return None
        self._characters += len(node.value)
        if self._characters > LARGEST:
            raise _wrong(node, f"its anchors expand to more than {LARGEST} characters")
        try:
            # JSON writes a character outside the BMP as a surrogate pair; PyYAML reads it as two characters.
            value = str(node.value).encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError as error:
            raise _wrong(node, "an unpaired surrogate is not a valid character") from error
        return value.translate(self._breaks) if self._breaks else value


def _wrong(node: yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def _explained(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or "not YAML"
    if "\\t" in problem:
        return "a tab; YAML indents with spaces"
    if error.context == "expected a single document in the stream":
        return "a second document begins here; a recipe is one document"
    if problem == "could not find expected ':'":
        return "not YAML: a line without ': ' (the text below a | is indented deeper than its key)"
    if problem == "mapping values are not allowed here":
        return "not YAML: a mapping cannot begin here (wrong indentation, or a value with ': ' that needs quotes)"
    if isinstance(error, yaml.scanner.ScannerError | yaml.parser.ParserError | yaml.composer.ComposerError):
        return f"not YAML: {problem}" + (f" {error.context}" if error.context else "")
    return problem

"""Planted bugs: read them from their files, and put one into a module's source."""

import ast
import textwrap
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]


class Unusable(Exception):
    """A bug that cannot be planted; the text says why."""


@dataclass(frozen=True)
class Bug:
    """One planted bug; see README.md beside this file for the meaning of each field."""

    id: str
    module: str
    function: str
    code: str
    becomes: str
    reason: str
    tests: tuple[str, ...]

    @property
    def layer(self) -> str:
        """The folder of `provisioner` that holds the module: core, service, agent, ..."""
        parts = Path(self.module).parts
        return parts[1] if parts[0] == "provisioner" and len(parts) > 2 else parts[0]


def read(folder: Path = FOLDER) -> list[Bug]:
    """Return the bugs of every file in `folder`, in order. Raises Unusable for a wrong field or an id used twice."""
    bugs: dict[str, Bug] = {}
    for path in sorted(folder.glob("*.toml")):
        for fields in tomllib.loads(path.read_text()).get("bug", []):
            try:
                bug = Bug(**{**fields, "tests": tuple(fields["tests"])})
            except (KeyError, TypeError) as error:
                raise Unusable(f"{path.name}: bug {fields.get('id', '?')!r}: {error}") from error
            if bug.id in bugs:
                raise Unusable(f"{path.name}: the id {bug.id!r} is used twice")
            if not bug.tests:
                raise Unusable(f"{path.name}: bug {bug.id!r} names no tests")
            bugs[bug.id] = bug
    return list(bugs.values())


def check(bug: Bug, root: Path = ROOT) -> None:
    """Raise Unusable if the bug does not apply to the sources below `root`, or names a test that does not exist."""
    plant(bug, root)
    for test in bug.tests:
        name, *functions = test.split("::")
        path = root / name
        if not path.exists():
            raise Unusable(f"no test file {name}")
        if functions and functions[-1].partition("[")[0] not in _definitions(ast.parse(path.read_text())):
            raise Unusable(f"no test {test}")


def plant(bug: Bug, root: Path = ROOT) -> str:
    """Return the module's source with the bug in it.

    Python is matched by its syntax tree, so that comments, line breaks and quotes do not matter; other files are
    matched by their text. Raises Unusable unless the code is found exactly once.
    """
    path = root / bug.module
    if not path.is_file():
        raise Unusable(f"no file {bug.module}")
    source = path.read_text()
    if path.suffix != ".py":
        if source.count(bug.code) != 1:
            raise Unusable(f"the text is found {source.count(bug.code)} times in {bug.module}")
        return source.replace(bug.code, bug.becomes)
    tree = ast.parse(source)
    scopes = [tree] if not bug.function else _definitions(tree).get(bug.function, [])
    if len(scopes) != 1:
        raise Unusable(f"{bug.module} has {len(scopes)} functions {bug.function!r}")
    found = list(_matches(bug, scopes[0]))
    if len(found) != 1:
        raise Unusable(f"the code is found {len(found)} times in {bug.function or 'the module'} of {bug.module}")
    planted = _replace(source, found[0], bug.becomes)
    try:
        changed = ast.dump(ast.parse(planted)) != ast.dump(tree)
    except SyntaxError as error:
        raise Unusable(f"with the bug, {bug.module} is not Python: {error}") from error
    if not changed:
        raise Unusable("the bug changes nothing")
    return planted


def _definitions(tree: ast.Module) -> dict[str, list[ast.AST]]:
    """Return the classes and functions by their qualified names; overloads share one name."""
    found: dict[str, list[ast.AST]] = {}

    def walk(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                found.setdefault(prefix + child.name, []).append(child)
                walk(child, f"{prefix}{child.name}.")
            else:
                walk(child, prefix)

    walk(tree, "")
    return found


def _expression(code: str) -> ast.expr | None:
    try:
        return ast.parse(code.strip(), mode="eval").body
    except SyntaxError:
        return None


def _matches(bug: Bug, scope: ast.AST) -> Iterator[Sequence[ast.expr | ast.stmt]]:
    """Yield each match of the bug's code: one expression, or consecutive statements."""
    wanted = _expression(bug.code)
    if wanted is not None and _expression(bug.becomes) is not None:
        form = ast.dump(wanted)
        for node in ast.walk(scope):
            if isinstance(node, ast.expr) and ast.dump(node) == form:
                yield [node]
        return
    try:
        forms = [ast.dump(statement) for statement in ast.parse(textwrap.dedent(bug.code)).body]
    except SyntaxError as error:
        raise Unusable(f"the code is not Python: {error}") from error
    for node in ast.walk(scope):
        for _, block in ast.iter_fields(node):
            if not (isinstance(block, list) and block and isinstance(block[0], ast.stmt)):
                continue
            for first in range(len(block) - len(forms) + 1):
                window = block[first : first + len(forms)]
                if [ast.dump(statement) for statement in window] == forms:
                    yield window


def _replace(source: str, nodes: Sequence[ast.expr | ast.stmt], becomes: str) -> str:
    """Return the source with `becomes` in place of the nodes. Columns of ast count bytes of UTF-8."""
    lines = source.encode().splitlines(keepends=True)
    first, last = nodes[0], nodes[-1]
    assert last.end_lineno is not None
    assert last.end_col_offset is not None
    before = b"".join(lines[: first.lineno - 1]) + lines[first.lineno - 1][: first.col_offset]
    after = lines[last.end_lineno - 1][last.end_col_offset :] + b"".join(lines[last.end_lineno :])
    if isinstance(first, ast.expr):
        return (before + f"({becomes.strip()})".encode() + after).decode()
    indented = textwrap.indent(textwrap.dedent(becomes).strip("\n"), " " * first.col_offset).lstrip()
    return (before + indented.encode() + after).decode()

"""Planted bugs: how scripts/mutate finds the code, and which bugs it rejects or reports as killed."""

import subprocess
import sys
from pathlib import Path

import pytest

from scripts.mutations.bugs import Bug, Unusable, check, plant, read

SOURCE = '''"""Module."""

LIMIT = 5


class Queue:
    def take(self, n):
        # Not everything at once.
        if n > LIMIT and (
            n
            != 7
        ):
            return LIMIT  # ü
        for each in range(n):
            print("ü", each); print(n)
        return n

    def drop(self, n):
        return n
'''


def bug(code: str, becomes: str, function: str = "Queue.take", module: str = "module.py") -> Bug:
    return Bug("a-bug", module, function, code, becomes, "It breaks.", ("test_module.py",))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "module.py").write_text(SOURCE)
    (tmp_path / "entry.sh").write_text("trap : TERM\nwait\n")
    (tmp_path / "test_module.py").write_text("def test_takes() -> None: ...\n")
    return tmp_path


@pytest.mark.parametrize(
    ("code", "becomes", "old", "new"),
    [
        (
            "n > LIMIT and n != 7",
            "n > LIMIT",
            "n > LIMIT and (\n            n\n            != 7\n        )",
            "(n > LIMIT)",
        ),
        ("print('ü', each)", "pass", 'print("ü", each)', "pass"),
        ("print(n)", "print(each)", "print(n)", "(print(each))"),
        ("return LIMIT", "self.full = 1\nreturn n", "return LIMIT", "self.full = 1\n            return n"),
    ],
)
def test_code_that_matches_by_its_syntax_is_replaced(tree: Path, code: str, becomes: str, old: str, new: str) -> None:
    """A bug still applies after comments, line breaks, quotes or parentheses change."""
    assert plant(bug(code, becomes), tree) == SOURCE.replace(old, new)


def test_the_same_code_in_another_function_is_left_alone(tree: Path) -> None:
    """A bug names the function that it changes."""
    assert plant(bug("return n", "return 0", "Queue.drop"), tree).endswith("return 0\n")
    assert plant(bug("LIMIT = 5", "LIMIT = 6", ""), tree) == SOURCE.replace("LIMIT = 5", "LIMIT = 6")


def test_a_file_that_is_not_python_is_matched_by_text(tree: Path) -> None:
    """Bugs can be planted in shell scripts too."""
    assert plant(bug("trap : TERM\n", "", "", "entry.sh"), tree) == "wait\n"


@pytest.mark.parametrize(
    "wrong",
    [
        bug("return 9", "return 8"),
        bug("n", "0"),
        bug("return n", "return 0", "Queue.lost"),
        bug("return n", "return n"),
        bug("return n", "return ("),
        bug("return n", "return 0", module="gone.py"),
    ],
)
def test_a_bug_that_does_not_apply_is_unusable(tree: Path, wrong: Bug) -> None:
    """--check fails if the code is gone, ambiguous or unchanged. Otherwise such a bug would go unnoticed."""
    with pytest.raises(Unusable):
        check(wrong, tree)


def test_a_bug_must_name_tests_that_exist(tree: Path) -> None:
    """Otherwise the rename of a test would leave a bug without a test that kills it."""
    fields = ("a-bug", "module.py", "Queue.take", "return n", "return 0", "It breaks.")
    check(Bug(*fields, ("test_module.py::test_takes",)), tree)
    for test in ("test_module.py::test_gone", "test_gone.py"):
        with pytest.raises(Unusable, match="no test"):
            check(Bug(*fields, (test,)), tree)


def test_an_id_used_twice_is_refused(tmp_path: Path) -> None:
    """Each verdict names one bug by its id."""
    one = '[[bug]]\nid = "a"\nmodule = "m"\nfunction = ""\ncode = "1"\nbecomes = "2"\nreason = ""\ntests = ["t"]\n'
    (tmp_path / "bugs.toml").write_text(one)
    assert [found.id for found in read(tmp_path)] == ["a"]
    (tmp_path / "more.toml").write_text(one)
    with pytest.raises(Unusable, match="twice"):
        read(tmp_path)


def test_planted_bug_is_killed_by_its_tests() -> None:
    """The test runs the whole command: copy the tree, run the tests without the bug, then with it."""
    words = [sys.executable, "-m", "scripts.mutations", "ended-node-called-silent"]
    done = subprocess.run(words, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    assert "killed" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0

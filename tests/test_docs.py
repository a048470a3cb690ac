"""The documentation agrees with the code, and its links lead somewhere."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from pydantic import BaseModel

from provisioner.core.recipe import duration
from provisioner.core.recipe.lists import ListOptions
from provisioner.core.recipe.parts import Gang, Limits, Placement, Retry
from provisioner.core.recipe.recipe import Spec
from provisioner.core.run.states import TRANSITIONS
from provisioner.faces.cli import exits

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "provisioner" / "docs"
DOCUMENTS = sorted([*PAGES.glob("*.md"), *ROOT.glob("README.md"), *ROOT.glob("*/README.md")])
#: Groups of recipe fields. The documentation must have a row for each field of a group.
GROUPS: Mapping[str, type[BaseModel]] = {
    "placement": Placement,
    "limits": Limits,
    "retry": Retry,
    "gang": Gang,
    "list": ListOptions,
}
#: Fields that are accepted and ignored, or always refused.
UNSUPPORTED = {"shared_folders", "token_scope", "start_dind", "dask_cluster", "status", "subdomain"}


def page(name: str) -> str:
    return (PAGES / f"{name}.md").read_text()


def rows(text: str) -> Iterator[list[str]]:
    """Yield the cells of every table row."""
    for line in text.splitlines():
        if line.startswith("|"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def test_state_diagram_has_every_edge_of_the_transition_table() -> None:
    drawn = [line.strip() for line in page("how-it-works").splitlines() if "-->" in line]
    assert drawn == [f"{old} --> {new}: {reason}" for (old, new), reason in TRANSITIONS.items()]


def test_every_exit_code_has_a_row() -> None:
    ours = {value for name, value in vars(exits).items() if name.isupper() and isinstance(value, int)}
    shown = {row[0] for row in rows(page("outcomes"))}
    assert {str(code) for code in ours | set(exits.WITHOUT_EXIT_CODE.values())} <= shown


def test_every_field_of_a_recipe_has_a_row_with_its_default() -> None:
    shown = {row[0].strip("`"): row[1].strip("`") for row in rows(page("recipe")) if len(row) == 3}
    fields = {name for name in Spec.model_fields if name not in GROUPS and name not in UNSUPPORTED}
    fields -= {"git", "registry", "extra_packages"}
    fields |= {"git.credential", "registry.credential", "extra_packages.pip", "extra_packages.apt"}
    fields |= {
        f"{group}.{name}"
        for group, model in GROUPS.items()
        for name, info in model.model_fields.items()
        if info.annotation is not type(None)
    }
    assert fields - shown.keys() == set()
    limits = Limits()
    for name in Limits.model_fields:
        seconds, told = getattr(limits, name), shown[f"limits.{name}"]
        unset = "pull + setup" if name == "gather" else "never"
        assert told == unset if seconds is None else duration.exact(told) == seconds, name


def _links(document: Path) -> Iterator[str]:
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if not link.startswith(("http://", "https://")):
            yield link


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files(document: Path) -> None:
    missing = [link for link in _links(document) if not (document.parent / link.partition("#")[0]).exists()]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_page_is_short(document: Path) -> None:
    lines = document.read_text().splitlines()
    assert len(lines) <= 300
    assert lines[0].startswith("# ")


def test_readme_is_short() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 130
    assert len(text.split()) <= 1300

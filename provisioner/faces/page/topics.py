"""Find the pages of the documentation by topic, and their pictures."""

from collections.abc import Mapping
from pathlib import Path

from provisioner.core.errors import NotFound
from provisioner.core.suggestions import did_you_mean

#: The folder with one Markdown file for each topic. The first line of a file is its title.
PAGES = Path(__file__).parents[2] / "docs"


def topics() -> Mapping[str, Path]:
    """Return the files of the pages by topic."""
    return {path.stem: path for path in sorted(PAGES.glob("*.md"))}


def title_of(path: Path) -> str:
    """Return the title of a page."""
    return path.read_text().partition("\n")[0].removeprefix("# ")


def source_of(topic: str) -> str:
    """Return the Markdown of a page; raises NotFound."""
    pages = topics()
    if topic not in pages:
        raise NotFound(f"no page {topic!r}{did_you_mean(topic, pages)}; `provision docs` lists the pages")
    return pages[topic].read_text()


def picture(name: str) -> Path:
    """Return the file of a picture of the documentation; raises NotFound."""
    for path in (PAGES / "pictures").iterdir():
        if path.name == name and path.suffix in (".svg", ".png"):
            return path
    raise NotFound(f"no picture {name!r}")

"""Commands that print documentation: docs, help."""

from pathlib import Path
from typing import Annotated

import typer

from provisioner.core.errors import NotFound
from provisioner.core.suggestions import did_you_mean
from provisioner.faces.cli.terminal import streams

#: One Markdown file for each topic; the first line is its title.
PAGES = Path(__file__).parents[3] / "docs"


def docs(
    topic: Annotated[str, typer.Argument(metavar="[TOPIC]", help="A page; without it, the list of pages.")] = "",
) -> None:
    """Read the documentation.

    Prints a page (Markdown), or the list of pages.
    """
    pages = {path.stem: path for path in sorted(PAGES.glob("*.md"))}
    if not topic:
        titles = {name: path.read_text().partition("\n")[0].removeprefix("# ") for name, path in pages.items()}
        streams.table(("TOPIC", "TITLE"), titles.items())
        return
    if topic not in pages:
        raise NotFound(f"no page {topic!r}{did_you_mean(topic, pages)}; `provision docs` lists the pages")
    streams.put_text(pages[topic].read_text().rstrip("\n"))


def help(
    context: typer.Context,
    words: Annotated[list[str] | None, typer.Argument(metavar="[COMMAND]", help="A command.")] = None,
) -> None:
    """Describe a command.

    The same as `provision COMMAND --help`.
    """
    found = context.parent
    assert found is not None
    for word in words or ():
        command = found.command.get_command(found, word) if hasattr(found.command, "get_command") else None
        if command is None:
            raise NotFound(f"no command {word!r}; `provision --help` lists the commands")
        found = command.make_context(word, [], parent=found, resilient_parsing=True)
    streams.put_text(found.get_help())

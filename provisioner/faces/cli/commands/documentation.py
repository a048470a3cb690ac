"""Commands that print documentation: docs, help."""

from typing import Annotated

import typer

from provisioner.core.errors import NotFound
from provisioner.faces.cli.terminal import streams
from provisioner.faces.page.topics import source_of, title_of, topics


def docs(
    topic: Annotated[str, typer.Argument(metavar="[TOPIC]", help="A page; without it, the list of pages.")] = "",
) -> None:
    """Read the documentation.

    Prints a page (Markdown), or the list of pages.
    """
    if not topic:
        streams.table(("TOPIC", "TITLE"), [(name, title_of(path)) for name, path in topics().items()])
        return
    streams.put_text(source_of(topic).rstrip("\n"))


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

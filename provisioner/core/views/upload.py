"""The view of an uploaded list of commands."""

from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True)
class Upload:
    """A list of commands that runs can be started with."""

    id: Annotated[str, "Pass it as `upload` to start a run with these commands."]
    commands: Annotated[int, "Number of commands."]
    bytes: Annotated[int, "Number of stored bytes: the lines, each with one byte for its end."]

"""Command that writes a settings file or a first recipe: init."""

import os
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from provisioner.core.errors import Conflict, Invalid
from provisioner.faces.cli.terminal import streams

#: The folder with the files to copy: in an installed wheel, or else in a checkout.
_HERE = Path(__file__).parents[3]
_STARTERS = _HERE / "starters" if (_HERE / "starters").is_dir() else _HERE.parent / "config"

#: The settings that `init` fills in; all other lines of the file become comments.
_FILLED = ("installation", "region")


class What(StrEnum):
    SETTINGS = "settings"
    RECIPE = "recipe"


def init(
    what: Annotated[What, typer.Argument(metavar="[settings|recipe]", help="What to write.")] = What.SETTINGS,
    file: Annotated[
        str, typer.Option(metavar="FILE", help="[default: ~/.config/provision/settings.toml, or ./recipe.yaml]")
    ] = "",
    region: Annotated[str, typer.Option(metavar="R", help="[default: $AWS_REGION, or us-east-1]")] = "",
    installation: Annotated[str, typer.Option(metavar="NAME", help="The installation's name.")] = "gpu-jobs",
) -> None:
    """Write a settings file or a first recipe.

    The file has comments for every field. An existing file is never changed.
    """
    if what is What.RECIPE:
        path, text = Path(file or "recipe.yaml"), (_STARTERS / "jobs" / "starter.yaml").read_text()
    else:
        region = region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
        path = Path(file or "~/.config/provision/settings.toml").expanduser()
        text = _settings({"installation": installation, "region": region})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError as error:
        raise Conflict(f"{path} exists: write another one with --file") from error
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror}") from error
    streams.put(str(path))
    if what is What.RECIPE:
        streams.say(f"next: provision apply {path}")
    else:
        streams.say("next: provision setup, then provision check")


def _settings(values: dict[str, str]) -> str:
    """Return the example settings as comments, except for the lines of these values."""
    lines = (_STARTERS / "settings.toml").read_text().splitlines()[1:]
    filled = []
    for line in lines:
        name = re.match(r"(\w+) = ", line)
        if name and name[1] in _FILLED:
            filled.append(f'{name[1]} = "{values[name[1]]}"')
        else:
            filled.append(f"# {line}" if line and not line.startswith("#") else line)
    return "\n".join(("# The settings of provision. Remove the `# ` of a line to set it.", *filled)) + "\n"

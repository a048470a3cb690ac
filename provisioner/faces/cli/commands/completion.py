"""Command that prints a script for the shell's completion: completion."""

from enum import StrEnum
from typing import Annotated

import typer

from provisioner.faces.cli.terminal import streams


class Shell(StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


#: How each shell evaluates the script in its startup file.
STARTUP = {
    Shell.BASH: "echo 'eval \"$(provision completion bash)\"' >> ~/.bashrc",
    Shell.ZSH: "echo 'eval \"$(provision completion zsh)\"' >> ~/.zshrc  # after compinit",
    Shell.FISH: "provision completion fish > ~/.config/fish/completions/provision.fish",
}


def completion(shell: Annotated[Shell, typer.Argument(help="bash, zsh or fish.")]) -> None:
    """Print a completion script for a shell.

    It completes commands, options, names of jobs and ids of runs.
    """
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    streams.put_text(get_completion_script(prog_name="provision", complete_var="_PROVISION_COMPLETE", shell=shell))
    streams.say(f"to load it in each new shell: {STARTUP[shell]}")

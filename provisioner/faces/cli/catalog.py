"""The commands of `provision`, each imported when it is used: `--help` imports none of them."""

import importlib
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

#: The commands by name, in the order in which a new user needs them: module and function (none: a group of commands),
#: and the first line of the help.
CATALOG = {
    "rehearse": ("rehearse:rehearse", "Run a recipe on a double of EC2, on this computer."),
    "apply": ("jobs:apply", "Store a recipe as a job, or as its next revision."),
    "jobs": ("jobs:jobs", "List the jobs."),
    "show": ("jobs:show", "Print a job's recipe, with every default filled in."),
    "delete": ("jobs:delete", "Forget a job that has no unfinished runs; its runs stay."),
    "schema": ("jobs:schema", "Print the JSON Schema of recipes."),
    "start": ("runs:start", "Start a run: a fresh machine for the job."),
    "runs": ("runs:runs", "List runs, newest first."),
    "status": ("runs:status", "Show what a run is doing and why, its attempts, and its story."),
    "top": ("top:top", "Watch what is alive; q or Ctrl-C leaves, and ends no run."),
    "logs": ("runs:logs", "Print a run's log: its bytes as they were written."),
    "wait": ("runs:wait", "Wait for runs to end."),
    "stop": ("runs:stop", "Stop runs: SIGTERM, and SIGKILL after their stop_grace."),
    "receipt": ("runs:receipt", "Show where a run's time and money went."),
    "ssh": ("entering:ssh", "Run a command, or a shell, in a run's container; the exit code is the command's."),
    "cp": ("entering:cp", "Copy a file or folder from or to a run's container."),
    "schedule": ("schedules:schedule", "Let a job start by itself, or see when it will."),
    "schedules": ("schedules:schedules", "List the schedules, each with its last and its next time."),
    "daemon": ("acting:daemon", "Act until stopped: launch, watch, end, reap, and start what schedules make due."),
    "serve": ("serving:serve", "Act as `daemon` does, and answer the HTTP API."),
    "cron": ("acting:cron", "Start what is due by schedules, and nothing else."),
    "reap": ("acting:reap", "End every machine that has outlived its lifetime."),
    "takeover": ("acting:takeover", "Make the bucket this store's, after the other store was lost."),
    "backup": ("backup:backup", "Copy the store, while a daemon or a server works, into one file."),
    "restore": ("backup:restore", "Put a backup back as this host's store, and take the bucket over with it."),
    "audit": ("tokens:audit", "Show who changed what, when, and from where; newest first."),
    "ami": ("ami:", "Machine images of your own, with agent and Docker images in them."),
    "token": ("tokens:", "Access tokens: who is let in by `provision serve`, and as whom."),
}


class Commands(TyperGroup):
    """The group of all commands."""

    def __init__(self, **words: Any) -> None:
        super().__init__(**words)
        # Typer suggests these names for one that is misspelt.
        self.commands = dict.fromkeys(CATALOG)  # type: ignore[assignment]

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - Typer's interface
        return list(CATALOG)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - Typer's interface
        if cmd_name not in CATALOG:
            return None
        name, _, function = CATALOG[cmd_name][0].partition(":")
        module = importlib.import_module(f"provisioner.faces.cli.commands.{name}")
        if not function:
            return get_command(module.app)
        alone = typer.Typer(add_completion=False, rich_markup_mode=None)
        alone.command(cmd_name)(getattr(module, function))
        return get_command(alone)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - Typer's interface
        room = formatter.width - 6 - max(map(len, CATALOG))
        with formatter.section("Commands"):
            formatter.write_dl([(name, _short(text, room)) for name, (_, text) in CATALOG.items()])


def _short(text: str, room: int) -> str:
    """Return the text, cut after a word if it is longer than `room` columns."""
    if len(text) <= room:
        return text
    return text[: room - 2].rpartition(" ")[0] + "..."

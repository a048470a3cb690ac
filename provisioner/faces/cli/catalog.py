"""The commands of `provision`, each imported when it is used: `--help` imports none of them."""

import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import typer
from typer.core import TyperGroup
from typer.main import get_command


class Command(NamedTuple):
    #: Module and function; without a function, a group of commands.
    place: str
    #: The line of `provision --help`, short enough for 80 columns.
    text: str
    example: str


#: The commands by group and name, in the order in which a new user needs them.
GROUPS: Mapping[str, Mapping[str, Command]] = {
    "First steps": {
        "rehearse": Command("rehearse:rehearse", "Run a recipe on this computer, without AWS.", "rehearse recipe.yaml"),
        "init": Command("init:init", "Write a settings file or a first recipe.", "init recipe"),
        "setup": Command("account.setup:setup", "Make what an installation needs in an AWS account.", "setup --print"),
        "check": Command("account.check:check", "Look for faults of the account and the settings.", "check"),
        "docs": Command("documentation:docs", "Read the documentation.", "docs outcomes"),
        "help": Command("documentation:help", "Describe a command.", "help start"),
        "completion": Command("completion:completion", "Print a completion script for a shell.", "completion bash"),
    },
    "Define jobs": {
        "apply": Command("jobs:apply", "Store a recipe as a job.", "apply recipe.yaml --start"),
        "jobs": Command("jobs:jobs", "List the jobs.", "jobs"),
        "show": Command("jobs:show", "Print a job's recipe with every default.", "show train"),
        "revisions": Command(
            "jobs:revisions", "List the revisions of a job, or print the recipe of one.", "revisions train 2"
        ),
        "delete": Command("jobs:delete", "Delete a job; its runs stay.", "delete train"),
        "schema": Command("jobs:schema", "Print the JSON Schema of recipes.", "schema > recipe.schema.json"),
    },
    "Run": {
        "start": Command("runs:start", "Start a run of a job on a fresh machine.", "start train --env LR=0.1 --follow"),
        "map": Command(
            "lists.mapping:map_list", "Start a run of a list of commands.", "map infer --commands files.txt --dry-run"
        ),
        "rerun": Command("lists.repeating:rerun", "Run the failed commands of a run again.", "rerun 1f3c --failed"),
        "stop": Command("runs:stop", "Stop runs: SIGTERM, then SIGKILL.", "stop 1f3c"),
        "wait": Command("runs:wait", "Wait for the end of runs.", "wait 1f3c"),
        "ssh": Command(
            "entering:ssh", "Open a shell in a run's container, or run a command.", "ssh 1f3c -- nvidia-smi"
        ),
        "cp": Command("entering:cp", "Copy files from or to a run's container.", "cp 1f3c:out ./out"),
    },
    "Watch": {
        "runs": Command("runs:runs", "List runs, the newest first.", "runs train --state running"),
        "status": Command("runs:status", "Show what a run does, why, and what happened.", "status 1f3c"),
        "commands": Command("lists.reading:commands", "List the commands of a run.", "commands 1f3c --failed"),
        "top": Command("top:top", "Show unfinished runs, updated each second.", "top"),
        "machines": Command("watching.machines:machines", "List the machines that are not terminated.", "machines"),
        "logs": Command("runs:logs", "Print a run's log.", "logs 1f3c --follow"),
        "open": Command("watching.opening:open_page", "Open the page of a job or a run.", "open train"),
        "receipt": Command("runs:receipt", "Show where a run's time and money went.", "receipt 1f3c --waterfall"),
        "usage": Command(
            "cost.usage:usage", "Show machine-hours and dollars of a period, by group.", "usage --by owner,job --csv"
        ),
    },
    "Schedule": {
        "schedule": Command(
            "schedules:schedule", "Set, show or remove a job's schedule.", 'schedule train "0 2 * * *"'
        ),
        "schedules": Command("schedules:schedules", "List the schedules.", "schedules"),
    },
    "Operate": {
        "serve": Command("serving:serve", "Run the control plane, the HTTP API and the page.", "serve --port 8080"),
        "daemon": Command("acting:daemon", "Run the control plane.", "daemon"),
        "cron": Command("acting:cron", "Start what schedules make due, and nothing else.", "cron"),
        "iam": Command("account.iam:iam", "Print the IAM policies for the settings.", "iam control > control.json"),
        "reap": Command("acting:reap", "End machines that outlived their lifetime.", "reap"),
        "token": Command("tokens:", "Create, list and revoke access tokens.", "token create --owner ann"),
        "audit": Command("tokens:audit", "Show who changed what, when, and from where.", "audit -n 20"),
        "ami": Command("ami:", "Make AMIs with the agent and Docker images.", "ami bake"),
        "backup": Command("backup:backup", "Write a backup of the store.", "backup /backups/today"),
        "restore": Command("backup:restore", "Restore a backup on a host without a store.", "restore /backups/today"),
        "takeover": Command("acting:takeover", "Take over the bucket of a store that is lost.", "takeover"),
    },
}

#: All commands by name.
CATALOG = {name: command for group in GROUPS.values() for name, command in group.items()}


#: Length of the longest name: the texts of all groups begin in one column.
WIDEST = max(map(len, CATALOG))


class Commands(TyperGroup):
    """The group of all commands."""

    def __init__(self, **words: Any) -> None:
        super().__init__(**words)
        # Typer suggests one of these names for a misspelt command.
        self.commands = dict.fromkeys(CATALOG)  # type: ignore[assignment]

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - Typer's interface
        return list(CATALOG)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - Typer's interface
        if cmd_name not in CATALOG:
            return None
        command = CATALOG[cmd_name]
        name, _, function = command.place.partition(":")
        module = importlib.import_module(f"provisioner.faces.cli.commands.{name}")
        epilog = f"\b\nExample:\n  provision {command.example}"
        if not function:
            module.app.info.epilog = epilog
            return get_command(module.app)
        alone = typer.Typer(add_completion=False, rich_markup_mode=None)
        alone.command(cmd_name, epilog=epilog)(getattr(module, function))
        return get_command(alone)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        # Typer's own method would import every command, which takes too long while a user waits.
        from typer.core import CompletionItem  # type: ignore[attr-defined]

        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        found = CATALOG.items()
        return [CompletionItem(name, help=command.text) for name, command in found if name.startswith(incomplete)]

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - Typer's interface
        for title, commands in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:<{WIDEST}}", command.text) for name, command in commands.items()])

"""Decide whether a command that failed runs again, and whether so many have failed that the list ends early."""

from provisioner.core.commands.blocks import GENERATION_MOST, Count
from provisioner.core.commands.records import CommandList
from provisioner.core.protocol.command_lines import CommandEnd
from provisioner.core.recipe.lists import ListOptions
from provisioner.core.run.lists.ledger import Ledger
from provisioner.core.run.ranks import stop_of
from provisioner.core.run.records import Run
from provisioner.core.run.work_order import recipe_of


def options_of(run: Run) -> ListOptions:
    """Return the options of the run's list; the defaults if this version cannot read its recipe."""
    recipe = recipe_of(run)
    return recipe.spec.list if recipe else ListOptions()


def too_many(commands: CommandList, options: ListOptions) -> bool:
    """Return whether the list ends early because of `list.max_failures`."""
    return options.max_failures is not None and commands.failed + commands.lost > options.max_failures


def early_reason(commands: CommandList, options: ListOptions) -> str:
    """Return why a list with too many failures ends early."""
    several = f"{commands.failed:,} commands failed" + (f" and {commands.lost:,} were lost" if commands.lost else "")
    return f"{several}, more than list.max_failures ({options.max_failures:,})"


def goes_on(run: Run, commands: CommandList, options: ListOptions) -> bool:
    """Return whether commands that have no final state may still begin."""
    return run.ended_at is None and not stop_of(run) and not too_many(commands, options)


def repeats(ledger: Ledger, end: CommandEnd, options: ListOptions) -> bool:
    """Return whether a command that has failed runs again, as long as the list goes on."""
    blocks, index = ledger.blocks, end.index
    if blocks.count(index, Count.FAILURES) >= options.retries or blocks.generation(index) >= GENERATION_MOST:
        return False
    return not ledger.is_stopped(index) and (not options.retry_on or _is_named(end, options.retry_on))


def _is_named(end: CommandEnd, ends: tuple[int | str, ...]) -> bool:
    """Return whether `list.retry_on` has this end. The exit code counts unless the agent ended the command."""
    return end.why in ends or (end.code in ends and end.why != "limit")

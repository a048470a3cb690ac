"""Stop single commands of a list, while the list goes on."""

from provisioner.core.commands.blocks import FINAL, CommandState
from provisioner.core.commands.records import STOPS_MOST
from provisioner.core.errors import Conflict
from provisioner.core.run.lists.ledger import Ledger


def stop(ledger: Ledger, index: int) -> bool:
    """Stop a command; return False if it has ended, or is being stopped already.

    A command that no machine has is cancelled: at once, or when its turn comes to be handed out. A machine that has it
    gets an order. The ledger needs the block of the command and that of the list's `next`. Raises Conflict if too many
    commands are being stopped.
    """
    stops = ledger.commands.stops
    if index in stops or (state := ledger.blocks.state(index)) in FINAL:
        return False
    if state is CommandState.WAITING:
        ledger.end(index, CommandState.CANCELLED)
        return True
    if len(stops) >= STOPS_MOST:
        text = f"{STOPS_MOST:,} commands of the run are being stopped; try again later, or stop the whole run"
        raise Conflict(text)
    ledger.stop(index)
    cancel_next(ledger)
    return True


def cancel_next(ledger: Ledger) -> None:
    """Cancel the commands at the list's `next`, up to the first that is not to be stopped.

    The ledger needs the block of the list's `next`.
    """
    commands = ledger.commands
    stops, index = frozenset(commands.stops), commands.next
    while index in stops:
        ledger.end(index, CommandState.CANCELLED)
        index += 1

"""Give a list of commands to the agent of a machine, as the control plane does, and read what it has put."""

from collections.abc import Sequence

from provisioner.core.protocol.batches import BatchHead, encode_batch
from provisioner.core.protocol.command_lines import CommandEnd, read_ends
from provisioner.core.protocol.keys import batch_key, chunk_key, records_prefix
from provisioner.core.protocol.messages import ListOrders, ListWork, Orders, WorkOrder
from tests.agent.conftest import Site


def list_order(
    site: Site, slots: int, total: int = 1, *, limit: float | None = None, idle: float = 60.0, **changes: object
) -> WorkOrder:
    """Return the work order of a machine of a list."""
    return site.order("", commands=ListWork(slots, total, limit, idle), **changes)


def put_batch(
    site: Site, machine: str, number: int, commands: Sequence[str | bytes], first: int = 0, generation: int = 1
) -> None:
    """Put a batch into the machine's mailbox; the commands have the indices from `first` on."""
    head = BatchHead("run-1", 1, 0, number, ((first, len(commands), generation),))
    texts = [text if isinstance(text, bytes) else text.encode() for text in commands]
    site.put(batch_key(site.box(machine), number), encode_batch(head, b"".join(text + b"\0" for text in texts)))


def name_batches(site: Site, machine: str, batches: int, *, last: bool = True) -> None:
    """Order the machine to execute the batches 1 to `batches`."""
    site.give_orders(machine, Orders(commands=ListOrders(batches, last)))


def run_list(site: Site, order: WorkOrder, commands: Sequence[str | bytes]) -> str:
    """Execute the commands, in one batch, on a machine to the end; return its id."""
    machine = start_list(site, order, commands)
    site.wait_off(machine)
    return machine


def start_list(
    site: Site, order: WorkOrder, commands: Sequence[str | bytes], *, last: bool = True, age: float = 0.0
) -> str:
    """Boot a machine that executes the commands, in one batch; return its id."""
    machine = site.boot(age=age)
    put_batch(site, machine, 1, commands)
    name_batches(site, machine, 1, last=last)
    site.assign(machine, order)
    return machine


def lines(site: Site, machine: str) -> list[CommandEnd]:
    """Return all records of the machine, in their order."""
    keys = site.keys(records_prefix(site.box(machine)))
    data = b"".join(site.get(key) or b"" for key in keys)
    ends = []
    for end in read_ends(data):
        assert isinstance(end, CommandEnd), end
        ends.append(end)
    return ends


def ends(site: Site, machine: str) -> dict[int, CommandEnd]:
    """Return the record of each command by index; a command has no more than one."""
    found = lines(site, machine)
    assert len({end.index for end in found}) == len(found), found
    return {end.index: end for end in found}


def output(site: Site, machine: str, end: CommandEnd) -> bytes:
    """Return the output of a command, as its record says where it is."""
    data = b""
    for chunk, skip, length in end.extents:
        piece = (site.get(chunk_key(site.box(machine), "output", chunk)) or b"")[skip : skip + length]
        assert len(piece) == length
        data += piece
    return data

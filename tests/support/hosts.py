"""A machine host for tests of the cloud: no machine does anything."""

from collections.abc import Callable

from provisioner.rehearsal.machines.host import Guest, place


class IdleHost:
    """Records which machines are booted and ended; a test may power a machine off, and set its console output."""

    def __init__(self, console: str = "") -> None:
        """`console` is the output of machines without an output of their own; `{id}` in it is the machine's id."""
        self._console = console
        self.consoles: dict[str, str] = {}
        self.guests: dict[str, Guest] = {}
        self.power_off: dict[str, Callable[[], None]] = {}
        self.ended: list[str] = []

    def address(self, number: int, together: bool) -> str:  # noqa: ARG002 - no machine has a network
        return f"10.{place(number)}"

    def boot(self, guest: Guest, powered_off: Callable[[str], None]) -> None:
        self.guests[guest.instance_id] = guest
        self.power_off[guest.instance_id] = lambda: powered_off(guest.instance_id)

    def end(self, instance_id: str) -> None:
        self.ended.append(instance_id)

    def console(self, instance_id: str) -> str:
        return self.consoles.get(instance_id, self._console.format(id=instance_id))

    def capture(self, instance_id: str, image_id: str) -> None:
        pass

    def forget(self, image_id: str) -> None:
        pass

    def close(self) -> None:
        pass

"""Connect over SSH to the machine of a run, or to its job's container."""

from collections.abc import Sequence

from provisioner.core.cloud.machines import ENDING
from provisioner.core.errors import Invalid, NotFound, Transient
from provisioner.core.protocol.keys import container_name
from provisioner.core.run.records import Node, Run
from provisioner.ports.connection import Connection, Connector, Process, Terminal
from provisioner.ports.shell import Host
from provisioner.service.installation import Installation

#: Maximum number of seconds to connect. The machine has reported before, so its sshd is running.
REACH_LIMIT = 20.0

#: Shell script: load the job's variables from a file, because `docker exec` lacks them; then run "$@" or a shell.
INSIDE = """
[ ! -r /run/provision/environment ] || . /run/provision/environment
[ $# -gt 0 ] && exec "$@"
command -v bash >/dev/null && exec bash
exec sh
"""


class Entrance:
    """Connects to machines, if the settings allow it."""

    def __init__(self, installation: Installation, connector: Connector, tail: str) -> None:
        """`tail` is the source of the program that prints a machine's spool (agent/logs/tail.py)."""
        self._installation, self._connector, self.tail = installation, connector, tail

    def enter(self, run: Run, node: Node | None, *, host: bool) -> Connection:
        """Connect to the job's container, or with `host` to its machine as root.

        Raises Invalid if the settings forbid SSH, NotFound if the run has no machine now, Transient if the machine or
        the container does not accept connections yet or at present, Misconfigured if another machine answers or the
        machine rejects the key, and Failed if the machine cannot be reached.
        """
        installation, short = self._installation, run.id[:12]
        if installation.keys is None:
            raise Invalid("SSH to machines is off: set `open = true` under [ssh] in the settings, for later launches")
        if node is None or run.ended_at is not None or node.verdict:
            raise NotFound(f"run {short} has no machine now: it is {run.state}")
        if node.report is None:
            raise Transient(f"the machine of run {short} has not reported yet: try again in a moment")
        if not node.host_keys:
            raise NotFound(
                f"{node.instance_id} reported no SSH host keys: `open` was false at its launch, or its AMI has no sshd"
            )
        way_in, key = installation.policy.way_in, installation.keys.key(run.id, node.attempt)
        found = installation.cloud.machines_known([node.instance_id]).machines
        if not found or found[0].state in ENDING:
            raise NotFound(f"{node.instance_id}, the machine of run {short}, has been terminated")
        at = Host(way_in.address_of(found[0]), way_in.port, "root", node.host_keys)
        try:
            connection = self._connector.connect(at, key, REACH_LIMIT)
        except Transient as error:
            raise way_in.unreachable(at.address, error) from error
        if host:
            return connection
        try:
            return _inside(connection, node)
        except BaseException:
            connection.close()
            raise


def _inside(connection: Connection, node: Node) -> Connection:
    name = container_name(node.run, node.attempt, node.rank)
    asked = connection.start(["docker", "container", "inspect", "--format", "{{.State.Running}}", name])
    said = asked.read(100)
    code, words = asked.wait()
    if said is None or said.strip() != b"true":
        why = words if code and "no such container" not in words.lower() else "it has not started yet, or has ended"
        raise Transient(f"cannot connect to the job's container: {why}. Try again, or connect to the machine: --host")
    return Container(connection, name)


class Container:
    """The job's container as a `Connection`: commands run in the container, as the Docker image's user."""

    def __init__(self, machine: Connection, name: str) -> None:
        self._machine, self._name = machine, name

    def start(self, words: Sequence[str], terminal: Terminal | None = None) -> Process:
        shown = ["--tty", f"--env=TERM={terminal.kind}"] if terminal else []
        enter = ["docker", "exec", "--interactive", *shown, self._name, "sh", "-c", INSIDE, "sh"]
        return self._machine.start([*enter, *words], terminal)

    def close(self) -> None:
        self._machine.close()

"""Read why a machine powered itself off from its console output, which only the machine's root can write."""

import re

from provisioner.core.run.machines.messages import printable

#: The line of the user-data and of the agent, anywhere in a line: the console may print a time or a service name first.
_VERDICT = re.compile(r"provision: (?:powering off: (.+)|(the fuse has expired|lost at .+))")
#: Maximum number of characters of a verdict.
MOST = 600


def verdict_of(console: str) -> str:
    """Return why the machine powered itself off, as its console says last; "" if it does not say that."""
    found = next((match for line in reversed(console.splitlines()) if (match := _VERDICT.search(line))), None)
    return printable(found[1] or found[2], MOST) if found else ""

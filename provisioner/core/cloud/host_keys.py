"""Read a machine's SSH host keys from its console output, which only the machine's root can write."""

import re

BEGIN, END = "-----BEGIN SSH HOST KEY KEYS-----", "-----END SSH HOST KEY KEYS-----"

#: A public key anywhere in a line: the console may print a time or a service name before it.
KEY = re.compile(r"\b((?:ssh|ecdsa|sk)-[a-z0-9@.-]+) (AAAA[A-Za-z0-9+/]+={0,2})")


def host_keys(console: str) -> tuple[str, ...]:
    """Return the keys, each `kind base64`, of the last complete block that cloud-init (or our user-data) printed.

    Empty if there is no such block yet. See "Keys to Console" in cloud-init's documentation.
    """
    before, end, _ = console.rpartition(END)
    _, begin, block = before.rpartition(BEGIN)
    if not begin or not end:
        return ()
    return tuple(dict.fromkeys(f"{kind} {key}" for kind, key in KEY.findall(block)))

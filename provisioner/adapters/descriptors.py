"""Files and sockets run out: how that is recognised behind a library's own words."""

import errno
import os
import resource

from provisioner.core.errors import NeedsOperator

#: Of this process, and of the whole computer (errno(3)).
SHORT = {errno.EMFILE: "this process has as many files open as it may", errno.ENFILE: "this computer has no file left"}


def shortage(error: BaseException | None = None) -> NeedsOperator | None:
    """The error to raise instead, if a missing descriptor is behind `error`; without one, if there is none left now.

    Libraries have words of their own for it: "unable to open database file", "temporary failure in name resolution".
    """
    number = _number(error) if error else _tried()
    if number not in SHORT:
        return None
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    text = f"{SHORT[number]} (ulimit -n is {most}): raise the limit, or LimitNOFILE in the unit"
    return NeedsOperator(text, errno.errorcode[number])


def _number(error: BaseException | None) -> int:
    """The first errno of these in the chain of causes, or 0."""
    seen = set[int]()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        found = error.errno if isinstance(error, OSError) else None
        if found in SHORT:
            return found or 0
        # urllib3 and botocore keep the cause in attributes of their own, too.
        kept = getattr(error, "kwargs", {})
        error = error.__cause__ or error.__context__ or (kept.get("error") if isinstance(kept, dict) else None)
    return 0


def _tried() -> int:
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return error.errno or 0
    return 0

"""Recognise that no file descriptor is left, even if a library reports another error."""

import errno
import os
import resource

from provisioner.core.errors import NeedsOperator

#: Messages by errno: the limit of this process is reached, or that of the whole computer (errno(3)).
SHORT = {
    errno.EMFILE: "this process has {most} open files, its limit: raise ulimit -n, or LimitNOFILE in the systemd unit",
    errno.ENFILE: "this computer has reached its limit of open files: raise the sysctl fs.file-max",
}


def shortage(error: BaseException | None = None) -> NeedsOperator | None:
    """Return the error to raise instead of `error` if a lack of file descriptors caused `error`, else None.

    Without `error`, test whether a descriptor is left now. Libraries hide the cause in messages such as "unable to open
    database file" or "temporary failure in name resolution".
    """
    number = _number(error) if error else _tried()
    if number not in SHORT:
        return None
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return NeedsOperator(SHORT[number].format(most=most), errno.errorcode[number])


def _number(error: BaseException | None) -> int:
    """Return the first errno of SHORT in the chain of causes, or 0."""
    seen = set[int]()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        found = error.errno if isinstance(error, OSError) else None
        if found in SHORT:
            return found or 0
        # botocore keeps the cause in `kwargs`.
        kept = getattr(error, "kwargs", {})
        error = error.__cause__ or error.__context__ or (kept.get("error") if isinstance(kept, dict) else None)
    return 0


def _tried() -> int:
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return error.errno or 0
    return 0

"""The NotFound errors for unknown names, with the same message from every caller."""

from provisioner.core.errors import NotFound


def no_job(name: str) -> NotFound:
    return NotFound(f"there is no job {name!r}; `provision jobs` lists them, `provision apply FILE` makes one")


def no_run(name: str) -> NotFound:
    return NotFound(f"there is no run {name!r}; `provision runs` lists them")


def no_token(id: str) -> NotFound:
    return NotFound(f"there is no token {id!r}; `provision token list` lists them")

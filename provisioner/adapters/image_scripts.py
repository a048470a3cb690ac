"""Read the files of `images/`, with which AMIs are made, from an installed wheel or from a checkout."""

from collections.abc import Mapping
from pathlib import Path

FOLDER = next(
    folder for folder in (Path(__file__).parents[1] / "images", Path(__file__).parents[2] / "images") if folder.is_dir()
)


def files() -> Mapping[str, bytes]:
    """Return the content of every file, by its path below `images/`."""
    return {
        path.relative_to(FOLDER).as_posix(): path.read_bytes() for path in sorted(FOLDER.rglob("*")) if path.is_file()
    }

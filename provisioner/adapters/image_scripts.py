"""`images/`, the AMI as code, as an installed wheel has it and as a checkout has it."""

from collections.abc import Mapping
from pathlib import Path

FOLDER = next(
    folder for folder in (Path(__file__).parents[1] / "images", Path(__file__).parents[2] / "images") if folder.is_dir()
)


def files() -> Mapping[str, bytes]:
    """Every file, by its path below `images/`."""
    return {
        path.relative_to(FOLDER).as_posix(): path.read_bytes() for path in sorted(FOLDER.rglob("*")) if path.is_file()
    }

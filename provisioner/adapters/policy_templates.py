"""Read the templates of the IAM policies from an installed wheel or from a checkout."""

import json
from collections.abc import Mapping
from pathlib import Path

from provisioner.core.cloud.policies import NAMES, Document

FOLDER = next(
    folder
    for folder in (Path(__file__).parents[1] / "iam", Path(__file__).parents[2] / "config" / "iam")
    if folder.is_dir()
)


def templates() -> Mapping[str, Document]:
    """Return the templates of all policies, by name."""
    return {name: json.loads((FOLDER / f"{name}.json").read_text()) for name in NAMES}

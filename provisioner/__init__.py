"""Serverless GPU jobs on raw EC2."""

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    # Import lazily: `core` must be importable without the rest of the package, on Python 3.10 too.
    if name == "connect":
        return importlib.import_module("provisioner.faces.python").connect
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

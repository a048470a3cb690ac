"""Recipes and sizes as Saturn's API tells them (public OpenAPI 2026.02.01)."""

import json
from collections.abc import Iterable
from typing import Any

from provisioner.core.record import Job
from provisioner.ports.control import Size

#: Its client compares this with 2026.02.01, as text, and asks newer servers for pods that live.
VERSION = "2026.02.01"


def recipe(job: Job, status: str | None = None, *, as_template: bool = False) -> dict[str, Any]:
    """The job's recipe with its schedule as it now is; as a template without owner and state."""
    told = json.loads(job.recipe)
    # The client prints a null start script as the word None, and a table needs an owner that is text.
    spec = {name: value for name, value in told["spec"].items() if value is not None} | {"owner": job.owner}
    spec |= {
        "schedule": job.schedule and job.schedule.cron,
        "start_script": spec.get("start_script", ""),
    }
    if as_template:
        del spec["owner"]
        return told | {"spec": spec}
    return told | {"spec": spec, "state": {"id": job.id, "status": status}}


def server_options(sizes: Iterable[Size]) -> dict[str, Any]:
    """What a recipe's `instance_type` may be here; the other choices are those of workspaces, of which there are none."""
    return {"sizes": {size.type.name: _size(size) for size in sizes}, "disk_space": [], "auto_shutoff": []}


def _size(size: Size) -> dict[str, Any]:
    kind = size.type
    return {
        "name": kind.name,
        "cores": kind.vcpus,
        "memory": f"{kind.memory_mib / 1024:g}Gi",
        "gpu": kind.gpus,
        "architecture": kind.architecture,
        "zones": list(kind.zones),
        "spot": kind.spot,
        "price_per_hour": size.on_demand and size.on_demand.dollars,
        "spot_price_per_hour": size.spot and size.spot.dollars,
    }

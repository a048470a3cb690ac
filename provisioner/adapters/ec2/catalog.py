"""Read instance types, offerings and spot prices from EC2's answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from provisioner.core.cloud.offers import InstanceType, Market, Offer, Price


def instance_type(info: Mapping[str, Any], zones: Iterable[str]) -> InstanceType:
    return InstanceType(
        name=info["InstanceType"],
        architecture=_architecture(info.get("ProcessorInfo", {}).get("SupportedArchitectures", ())),
        gpus=_gpus(info.get("GpuInfo", {}).get("Gpus", ())),
        vcpus=info["VCpuInfo"]["DefaultVCpus"],
        memory_mib=info["MemoryInfo"]["SizeInMiB"],
        zones=tuple(sorted(zones)),
        spot="spot" in info.get("SupportedUsageClasses", ()),
        # If EC2 does not describe the type's groups, a launch shows whether it accepts one.
        cluster="cluster" in info.get("PlacementGroupInfo", {}).get("SupportedStrategies", ("cluster",)),
    )


def _architecture(supported: Iterable[str]) -> str:
    """Return the architecture that AMIs for this type need, or ""; older types also list `i386`."""
    names = list(supported)
    return next((name for name in ("x86_64", "arm64") if name in names), names[0] if names else "")


def _gpus(devices: Iterable[Mapping[str, Any]]) -> int:
    """Return the number of NVIDIA GPUs; GpuInfo also lists AMD's and Habana's. A fraction of a GPU has Count 0."""
    return sum(
        device.get("Count") or device.get("LogicalGpuCount", 0)
        for device in devices
        if device.get("Manufacturer", "").upper() == "NVIDIA"
    )


def spot_prices(history: Iterable[Mapping[str, Any]], zones: Iterable[str], at: float) -> dict[Offer, Price]:
    """Return each offer's price in force at `at`, Unix seconds: the last change in the history."""
    wanted = set(zones)
    latest: dict[Offer, Mapping[str, Any]] = {}
    for entry in history:
        offer = Offer(Market.SPOT, entry["InstanceType"], entry["AvailabilityZone"])
        known = latest.get(offer)
        if offer.zone in wanted and (known is None or entry["Timestamp"] > known["Timestamp"]):
            latest[offer] = entry
    return {
        offer: Price(float(entry["SpotPrice"]), "EC2 DescribeSpotPriceHistory", at) for offer, entry in latest.items()
    }

"""Instance types, offerings and prices, as EC2's answers tell them."""

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
    )


def _architecture(supported: Iterable[str]) -> str:
    """The one an image is made for: older types also say `i386`."""
    names = list(supported)
    return next((name for name in ("x86_64", "arm64") if name in names), names[0] if names else "")


def _gpus(devices: Iterable[Mapping[str, Any]]) -> int:
    """NVIDIA's alone: GpuInfo also holds AMD's and Habana's. A slice of one has Count 0 and is seen as one."""
    return sum(
        device.get("Count") or device.get("LogicalGpuCount", 0)
        for device in devices
        if device.get("Manufacturer", "").upper() == "NVIDIA"
    )


def spot_prices(history: Iterable[Mapping[str, Any]], zones: Iterable[str], at: float) -> dict[Offer, Price]:
    """The price in force at `at` of each offer: the last change before it."""
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

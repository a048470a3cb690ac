"""List prices of machines and disks, and what of a launch they add up to."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from provisioner.core.cloud.launches import INCLUDED_IOPS, INCLUDED_THROUGHPUT, Template
from provisioner.core.cloud.offers import Price


@dataclass(frozen=True)
class PriceList:
    """What the cloud asks of everybody: an hour of on-demand machines by type, and a month of disk."""

    machines: Mapping[str, Price]
    #: Of a GiB, of one of the IOPS and of a MiB/s beyond what a disk's price includes.
    gib: Price | None = None
    iops: Price | None = None
    throughput: Price | None = None

    def disk(self, template: Template) -> Price | None:
        """A month of the template's disk; None where a part of it is unknown."""
        parts = (
            (self.gib, template.disk_gib),
            (self.iops, (template.disk_iops or INCLUDED_IOPS) - INCLUDED_IOPS),
            (self.throughput, max(0, (template.disk_throughput or 0) - INCLUDED_THROUGHPUT)),
        )
        known = [(price, amount) for price, amount in parts if price and amount]
        if len(known) < sum(bool(amount) for _, amount in parts):
            return None
        return replace(known[0][0], dollars=sum(price.dollars * amount for price, amount in known))

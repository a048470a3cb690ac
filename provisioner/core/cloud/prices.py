"""List prices of machines and disks, and the price of a template's disk."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from provisioner.core.cloud.launches import INCLUDED_IOPS, INCLUDED_THROUGHPUT, Template
from provisioner.core.cloud.offers import Price


@dataclass(frozen=True)
class PriceList:
    """The cloud's public prices: an hour of an on-demand machine by type, and a month of a disk."""

    machines: Mapping[str, Price]
    #: Prices of one GiB, and of one IOPS and one MiB/s beyond those that a disk's price includes.
    gib: Price | None = None
    iops: Price | None = None
    throughput: Price | None = None

    def disk(self, template: Template) -> Price | None:
        """Return the price of a month of the template's disk; None if the price of a part is unknown."""
        parts = (
            (self.gib, template.disk_gib),
            (self.iops, (template.disk_iops or INCLUDED_IOPS) - INCLUDED_IOPS),
            (self.throughput, max(0, (template.disk_throughput or 0) - INCLUDED_THROUGHPUT)),
        )
        known = [(price, amount) for price, amount in parts if price and amount]
        if len(known) < sum(bool(amount) for _, amount in parts):
            return None
        return replace(known[0][0], dollars=sum(price.dollars * amount for price, amount in known))

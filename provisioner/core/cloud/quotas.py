"""AWS's quotas of running vCPUs: one for each group of instance families, in each market and region.

Codes and names: EC2 User Guide, "Amazon EC2 service quotas".
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from provisioner.core.cloud.offers import Market, Offer


@dataclass(frozen=True)
class Quota:
    code: str
    name: str

    @property
    def page(self) -> str:
        """The page of AWS's console where a higher value is requested."""
        return f"https://console.aws.amazon.com/servicequotas/home/services/ec2/quotas/{self.code}"


_STANDARD = "Standard (A, C, D, H, I, M, R, T, Z)"

#: By market: the quotas, each with a pattern for its families. A family is the name of a type without its size. Spot P6
#: is missing, because the sources do not agree on its quota.
_QUOTAS: Mapping[Market, Mapping[str, Quota]] = {
    Market.ON_DEMAND: {
        r"(g|gr|vt)\d.*": Quota("L-DB2E81BA", "Running On-Demand G and VT instances"),
        r"p\d.*": Quota("L-417A185B", "Running On-Demand P instances"),
        r"([acdhimrtz]|im|is)\d.*": Quota("L-1216C47A", f"Running On-Demand {_STANDARD} instances"),
        r"dl\d.*": Quota("L-6E869C2A", "Running On-Demand DL instances"),
        r"f\d.*": Quota("L-74FC7D96", "Running On-Demand F instances"),
        r"inf\d.*": Quota("L-1945791B", "Running On-Demand Inf instances"),
        r"trn\d.*": Quota("L-2C3B7624", "Running On-Demand Trn instances"),
        r"x\d.*": Quota("L-7295265B", "Running On-Demand X instances"),
    },
    Market.SPOT: {
        r"(g|gr|vt)\d.*": Quota("L-3819A6DF", "All G and VT Spot Instance Requests"),
        r"p[2-4].*": Quota("L-7212CCBC", "All P4, P3 and P2 Spot Instance Requests"),
        r"p5.*": Quota("L-C4BD4855", "All P5 Spot Instance Requests"),
        r"([acdhimrtz]|im|is)\d.*": Quota("L-34B43A08", f"All {_STANDARD} Spot Instance Requests"),
        r"dl\d.*": Quota("L-85EED4F7", "All DL Spot Instance Requests"),
        r"f\d.*": Quota("L-88CF9481", "All F Spot Instance Requests"),
        r"inf\d.*": Quota("L-B5D1601B", "All Inf Spot Instance Requests"),
        r"trn\d.*": Quota("L-6B0D517C", "All Trn Spot Instance Requests"),
        r"x\d.*": Quota("L-E3A00192", "All X Spot Instance Requests"),
    },
}


def quota_of(offer: Offer) -> Quota | None:
    """Return the quota that machines of the offer use up, or None if it is not known.

    Machines in a reservation use up no more of a quota than the reservation itself, so they have none.
    """
    family = offer.instance_type.partition(".")[0]
    quotas = _QUOTAS.get(offer.market, {})
    return next((quota for pattern, quota in quotas.items() if re.fullmatch(pattern, family)), None)


def quota_with(code: str) -> Quota | None:
    """Return the quota with this code, or None if it is not known."""
    every = (quota for quotas in _QUOTAS.values() for quota in quotas.values())
    return next((quota for quota in every if quota.code == code), None)

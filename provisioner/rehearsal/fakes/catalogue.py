"""A few real instance types, two of them without GPUs, for tests that do not need the whole catalogue.

The figures are those of DescribeInstanceTypes (EC2 User Guide, "Accelerated computing").
"""

from provisioner.core.cloud.offers import InstanceType

ZONES = ("us-east-1a", "us-east-1b", "us-east-1c")

#: Number of GPUs, number of vCPUs, and memory in MiB.
_FIGURES = {
    "g4dn.xlarge": (1, 4, 16384),
    "g4dn.12xlarge": (4, 48, 196608),
    "g5.xlarge": (1, 4, 16384),
    "g5.2xlarge": (1, 8, 32768),
    "g5.12xlarge": (4, 48, 196608),
    "g5.48xlarge": (8, 192, 786432),
    "g6.xlarge": (1, 4, 16384),
    "g6.12xlarge": (4, 48, 196608),
    "m6i.large": (0, 2, 8192),
    "p4d.24xlarge": (8, 96, 1179648),
    "p5.48xlarge": (8, 192, 2097152),
    "t3.small": (0, 2, 2048),
}

TYPES = {
    name: InstanceType(name, "x86_64", gpus, vcpus, memory, ZONES, spot=True, cluster=not name.startswith("t"))
    for name, (gpus, vcpus, memory) in _FIGURES.items()
}

"""Defaults that an installation gives its jobs, and the parts of a recipe that it cannot grant or launch."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from provisioner.core.cloud.machine_images import undriven
from provisioner.core.cloud.offers import Catalog, Market
from provisioner.core.cloud.reserved.choice import choose
from provisioner.core.cloud.reserved.reservations import Reservation
from provisioner.core.protocol.messages import Repository
from provisioner.core.recipe import git
from provisioner.core.recipe.recipe import Spec
from provisioner.core.recipe.yaml import Path
from provisioner.core.suggestions import did_you_mean


@dataclass(frozen=True)
class RecipeDefaults:
    """The settings that recipes use; each is empty if it is not set."""

    git_credential: str = ""
    #: Lines of known_hosts in addition to the built-in ones.
    known_hosts: tuple[str, ...] = ()
    registry_credential: str = ""
    #: An s3:// URL that ends in a slash.
    checkpoint_url: str = ""
    subnets: tuple[str, ...] = ()
    #: Maximum number of machines that may be alive; None: any number.
    max_machines: int | None = None
    #: The capacity reservation for recipes that name none.
    reservation: str = ""


def trusted(terms: RecipeDefaults) -> tuple[str, ...]:
    return (*git.KNOWN_HOSTS, *terms.known_hosts)


def repositories(spec: Spec, terms: RecipeDefaults) -> tuple[Repository, ...]:
    """Return the repositories to clone, each with its path and credential."""
    known = spec.git.credential or terms.git_credential
    return tuple(
        Repository(
            item.url,
            path,
            item.reference or "",
            item.reference_type or "branch",
            item.credential(known),
            item.depth or "",
            item.lfs,
        )
        for item, path in zip(spec.git_repositories, spec.checkouts, strict=True)
    )


def ungranted(spec: Spec, owner: str, terms: RecipeDefaults) -> Iterator[tuple[Path, str]]:
    """Yield the path of each part of the spec that this installation cannot grant to `owner`, with an error message."""
    for index, item in enumerate(spec.git_repositories):
        where: Path = ("spec", "git_repositories", index, "url")
        host = git.host_of(item.url)
        if host and not (spec.git.credential or terms.git_credential):
            yield where, "SSH needs a key: name a secret with the key in spec.git.credential or in the settings"
        elif host and not git.knows(trusted(terms), host):
            yield (
                where,
                f"the key of {host} is not known: add its line of known_hosts to git.known_hosts of the settings",
            )
    for index, secret in enumerate(spec.secrets):
        if secret.owner not in (None, owner):
            where = ("spec", "secrets", index, "owner")
            yield where, f"cannot read a secret of {secret.owner}: the job's machines have only the rights of {owner}"
    for index, subnet in enumerate(spec.placement.subnets):
        if subnet not in terms.subnets:
            where = ("spec", "placement", "subnets", index)
            yield where, f"{subnet} is not a subnet of the installation, which has {', '.join(terms.subnets) or 'none'}"
    if terms.max_machines is not None and spec.together > terms.max_machines:
        yield (
            ("spec", "scale"),
            f"the run needs {spec.scale} machines at once; max_machines of the settings allows {terms.max_machines}",
        )
    if spec.checkpoint and not terms.checkpoint_url:
        yield (
            ("spec", "checkpoint"),
            "the installation has no place for checkpoints: set checkpoint_url in the settings",
        )


def reservation(spec: Spec, terms: RecipeDefaults) -> str:
    """Return the reservation for the spec's machines: the recipe's or, for on-demand machines, the settings', or ""."""
    default = "" if spec.use_spot_instance or spec.placement.group else terms.reservation
    return default if spec.placement.reservation is None else spec.placement.reserved


def unoffered(
    spec: Spec, catalog: Catalog, known_types: Callable[[], Iterable[str]], driven: Sequence[str] | None = None
) -> Iterator[tuple[Path, str]]:
    """Yield the path of each instance type and zone of the recipe that cannot be launched, with the reason.

    An alternative type may be missing in the recipe's zones, as long as they have one of the types. `catalog` describes
    all types of the recipe that the region has. `known_types()` returns the names that are suggested for a misspelt
    type; it is called only if a type is unknown. `driven` are the families whose GPUs the AMI's driver supports, if
    they are known.
    """
    in_order: list[tuple[Path, str]] = [(("spec", "instance_type"), spec.instance_type)]
    in_order += [
        (("spec", "placement", "instance_types", index), name)
        for index, name in enumerate(spec.placement.instance_types)
    ]
    for where, name in in_order:
        found = catalog.types.get(name)
        if found is None:
            yield where, f"the region has no instance type {name}{did_you_mean(name, known_types())}"
        elif not found.gpus and spec.placement.gpu == "required":
            yield where, f"{name} has no NVIDIA GPU; choose another type, or set spec.placement.gpu to none"
        elif spec.placement.gpu == "required" and not found.is_driven(driven):
            yield where, f"{name}: {undriven(driven)}"
        elif spec.placement.group and not found.cluster:
            yield (
                where,
                f"{name} cannot be in a cluster placement group; choose another type, or leave placement.group out",
            )
        elif not found.spot and spec.markets == (Market.SPOT,):
            yield where, f"EC2 has no spot {name}; choose another type, or set spec.placement.spot_fallback to true"
    for index, zone in enumerate(spec.placement.zones):
        if zone not in catalog.subnets:
            here = ", ".join(sorted(catalog.subnets))
            yield (
                ("spec", "placement", "zones", index),
                f"the installation has no subnet in {zone}; it has subnets in {here or 'no zone'}",
            )
    zones = {zone for zone in catalog.subnets if allows(spec, zone, catalog)}
    if (
        not {name for _, name in in_order} <= catalog.types.keys()
        or not {*spec.placement.zones} <= catalog.subnets.keys()
    ):
        return
    if not zones:
        yield ("spec", "placement", "zones"), "none of these zones has a subnet of spec.placement.subnets"
    elif not any(zones & {*catalog.types[name].zones} for _, name in in_order):
        there = ", ".join(sorted(zones))
        yield (
            ("spec", "instance_type"),
            f"EC2 offers no {' or '.join(spec.instance_types)} in {there}, the zones that the recipe may use",
        )


def allows(spec: Spec, zone: str, catalog: Catalog) -> bool:
    """Return whether the recipe allows machines in the zone."""
    subnets, zones = spec.placement.subnets, spec.placement.zones
    return (not zones or zone in zones) and (not subnets or catalog.subnets.get(zone) in subnets)


def unreserved(
    spec: Spec, catalog: Catalog, reserved: Sequence[Reservation], now: float
) -> Iterator[tuple[Path | None, str]]:
    """Yield why runs cannot be launched into the reservations now: with the path of the field if no later try helps.

    Without a path, the text is for users who may not know that the runs wait.
    """
    kinds = [catalog.types[name] for name in spec.instance_types if name in catalog.types]
    offered = {(kind.name, zone) for kind in kinds for zone in kind.zones if allows(spec, zone, catalog)}
    choice = choose(reserved, offered, spec.together, spec.machine_lifetime, now)
    if choice.again_at is not None:
        yield None, f"runs wait: {choice.reason}"
    elif not choice.reservation:
        yield ("spec", "placement", "reservation"), choice.reason


def gpu_notes(spec: Spec, catalog: Catalog) -> Iterator[str]:
    """Yield what may surprise in how the commands of a list use the GPUs of each instance type of the recipe."""
    slots = spec.nprocs
    for name in spec.instance_types if spec.placement.gpu == "required" else ():
        gpus = catalog.types[name].gpus if name in catalog.types else 0
        if 0 < gpus < slots:
            yield f"{slots} commands share the {gpus} GPU{'s' if gpus > 1 else ''} of {name} by turns"
        elif gpus % slots:
            yield f"with nprocs {slots}, {gpus % slots} of the {gpus} GPUs of {name} are not used"

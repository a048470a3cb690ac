"""The contract for the cloud that provides machines.

Every method may raise `Throttled`, `Transient` (the call had no effect), `NoAnswer` (the call may have taken effect)
and `Misconfigured` (the call cannot succeed unchanged; show the message verbatim). Listings lag: a machine may be
missing for seconds after its launch, so absence proves nothing about a young machine.
"""

from collections.abc import Collection, Mapping
from typing import Protocol

from provisioner.core.cloud.launch_templates import LaunchTemplate
from provisioner.core.cloud.launches import LaunchAnswer, LaunchRequest, Profile
from provisioner.core.cloud.machine_images import Ami, Image
from provisioner.core.cloud.machines import Listing, Machine
from provisioner.core.cloud.offers import Catalog
from provisioner.core.cloud.placement_groups import PlacementGroup
from provisioner.core.cloud.prices import PriceList
from provisioner.core.cloud.reserved.reservations import Reservation
from provisioner.core.errors import CloudError


class Cloud(Protocol):
    def catalog(self, instance_types: Collection[str]) -> Catalog:
        """Return the catalog of these instance types in the zones in which the installation has a subnet.

        A type that the region does not have is omitted.
        """

    def gpu_types(self) -> tuple[str, ...]:
        """Return the names of the region's instance types with an NVIDIA GPU, sorted."""

    def price_list(self, instance_types: Collection[str]) -> PriceList:
        """Return the on-demand prices of these types, and the prices of disks; uncertain prices are omitted."""

    def quota(self, code: str) -> int:
        """Return the value of the account's quota of vCPUs with this code, as of `core.cloud.quotas`."""

    def image(self, reference: str) -> Image:
        """Return the machine image with the id `ami-…`, or the one whose id is in the public parameter `ssm:/path`."""

    def profile(self, name: str) -> Profile:
        """Return the instance profile of that name, with its role's unique id."""

    def reservations(self, reference: str) -> tuple[Reservation, ...]:
        """Return the capacity reservation with the id `cr-…`, or those in the group with this ARN that are not over."""

    def launch(self, request: LaunchRequest) -> LaunchAnswer:
        """Request `request.count` machines in one call without retries.

        The launch template and the placement group are made before the call if they are missing. The group has the
        machines' tags.

        The same request returns the same machines as long as the cloud remembers the token. An answer is final, even
        an answer without machines. Errors that are not among the answer's refusals are raised. After `NoAnswer`,
        repeat the same request. After `Conflict`, use `machines_of`: the token can no longer be replayed.
        """

    def machines(self) -> Listing:
        """Return all machines of the installation that the cloud still lists, from all pages."""

    def machines_known(self, ids: Collection[str]) -> Listing:
        """Return only these machines; for use when `machines` fails.

        An id that the cloud does not know is omitted. Such an id, or an outage of a zone, hides no other machine.
        """

    def machines_of(self, launch: str) -> tuple[Machine, ...]:
        """Return the machines with this launch's tag, including ended machines that the cloud still lists."""

    def terminate(self, ids: Collection[str]) -> Mapping[str, CloudError]:
        """Request the termination of these machines; return, by id, the errors of requests that were not accepted.

        A wrong id does not affect the others. The call may be repeated. An id that the cloud does not know is reported
        as `Misconfigured` with the cloud's code; it does not prove that the machine has ended.
        """

    def launch_templates(self) -> tuple[LaunchTemplate, ...]:
        """Return the launch templates of the installation."""

    def delete_launch_template(self, name: str) -> None:
        """Delete a launch template of the installation; one that the cloud does not know counts as deleted.

        A launch that needs it makes it again; the first try may be refused as `Transient`.
        """

    def placement_groups(self) -> tuple[PlacementGroup, ...]:
        """Return the placement groups of the installation, without those that are being deleted."""

    def delete_placement_group(self, name: str) -> bool:
        """Delete a placement group; return False if it has machines that have not ended.

        The call may be repeated: a group that the cloud does not know counts as deleted.
        """

    def impaired(self, ids: Collection[str]) -> frozenset[str]:
        """Return those of these machines whose status checks fail; unknown ids are omitted."""

    def console(self, instance_id: str) -> str:
        """Return the latest console output; empty if the cloud has none (yet)."""

    def amis(self) -> tuple[Ami, ...]:
        """Return the machine images of the installation, including unfinished ones."""

    def create_ami(self, instance_id: str, name: str, tags: Mapping[str, str]) -> str:
        """Start making a machine image of a running machine, which restarts the machine; return the image's id.

        Image and snapshot have the tags from their creation. The same name and tags return the same image; raises
        `Conflict` if another image has the name.
        """

    def delete_ami(self, id: str) -> bool:
        """Delete a machine image of the installation and its snapshots; return False if there was none.

        The call may be repeated, and then deletes what an earlier call left.
        """

"""The contract with the cloud that rents machines.

Every method may raise `Throttled`, `Transient` (nothing was done), `NoAnswer` (it may have been)
and `Misconfigured` (it never will be; shown verbatim). Listings lag: a machine may be missing for
seconds after its launch, so absence proves nothing about a young one.
"""

from collections.abc import Collection, Mapping
from typing import Protocol

from provisioner.core.cloud.launches import LaunchAnswer, LaunchRequest, Profile
from provisioner.core.cloud.machine_images import Ami, Image
from provisioner.core.cloud.machines import Listing, Machine
from provisioner.core.cloud.offers import Catalog
from provisioner.core.cloud.prices import PriceList
from provisioner.core.errors import CloudError


class Cloud(Protocol):
    def catalog(self, instance_types: Collection[str]) -> Catalog:
        """What is known of these types in the zones where the installation has a subnet.

        A type that the region does not know is left out.
        """

    def gpu_types(self) -> tuple[str, ...]:
        """The names of the region's types with an NVIDIA GPU, sorted."""

    def price_list(self, instance_types: Collection[str]) -> PriceList:
        """What these types cost on demand, and disks; what the cloud does not tell for certain is left out."""

    def image(self, reference: str) -> Image:
        """The image behind an `ami-…` id or `ssm:/path` of a public parameter."""

    def profile(self, name: str) -> Profile:
        """The instance profile of that name, with its role's unique id."""

    def launch(self, request: LaunchRequest) -> LaunchAnswer:
        """Ask once, without any retry, for `request.count` machines; the template is made if need be.

        The same request again gives the same machines for as long as the cloud remembers the token.
        An answer, even one of no machine at all, closes the launch. What is not in the answer's
        refusals is raised: `NoAnswer` means replay the same request; `Conflict` means that the token
        cannot be replayed any more: list by launch.
        """

    def machines(self) -> Listing:
        """All machines of the installation that the cloud still shows, every page of them."""

    def machines_known(self, ids: Collection[str]) -> Listing:
        """These machines alone, one zone's failure or one unknown id not hiding the others.

        For when `machines` fails. An id that the cloud does not know is left out.
        """

    def machines_of(self, launch: str) -> tuple[Machine, ...]:
        """The machines that carry this launch's tag, ended ones too while the cloud shows them."""

    def terminate(self, ids: Collection[str]) -> Mapping[str, CloudError]:
        """Ask for the end of all of these; what was not accepted, by id.

        One bad id sinks nobody else. Repeating it is harmless. An id that the cloud does not know is
        reported as `Misconfigured` with its code: no proof of death.
        """

    def impaired(self, ids: Collection[str]) -> frozenset[str]:
        """Those of these machines whose own status checks fail; unknown ids are left out."""

    def console(self, instance_id: str) -> str:
        """The latest console output; empty when the cloud has none (yet)."""

    def amis(self) -> tuple[Ami, ...]:
        """The machine images of the installation, unfinished ones too."""

    def create_ami(self, instance_id: str, name: str, tags: Mapping[str, str]) -> str:
        """Begin an image of a running machine, which is restarted for it; the image's id.

        Image and snapshot have the tags from their creation. The same name and tags again give the same
        image; a name that stands for another one raises `Conflict`.
        """

    def delete_ami(self, id: str) -> bool:
        """Delete an image of the installation, and the snapshots behind it; False when there was nothing.

        Repeating it is harmless, and finishes what an earlier call has left.
        """

"""Bake, list, choose and delete the installation's own machine images."""

from provisioner.core.access.callers import Audit, Caller
from provisioner.core.cloud.machine_images import Ami, AmiState
from provisioner.core.cloud.machines import ENDING
from provisioner.core.errors import Conflict, Invalid, NotFound
from provisioner.core.views import from_records
from provisioner.core.views.ami import Ami as View
from provisioner.service.ami.bake import BakeRequest, Bakery
from provisioner.service.ami.builder import Told
from provisioner.service.control_loop.launch_sites import AMI, LaunchSites
from provisioner.service.installation import Installation

#: The name with which `use` selects the machine image of the settings.
DEFAULT = "default"


class Amis:
    def __init__(self, installation: Installation, sites: LaunchSites, bakery: Bakery, caller: Caller) -> None:
        self._installation, self._sites, self._bakery, self._caller = installation, sites, bakery, caller

    @property
    def default(self) -> str:
        """The machine image of the settings."""
        return self._installation.policy.image

    def now(self) -> float:
        return self._installation.clock.now()

    def close(self) -> None:
        self._installation.store.close()

    def bake(self, wish: BakeRequest, told: Told) -> Ami:
        """Bake a machine image and return it when it is available. Raises Failed, and Conflict if the name is taken."""
        # Save the audit record before the cloud is changed.
        self._installation.save([self._audit("bake AMI", wish.name)])
        return self._bakery.bake(wish, told)

    def list(self) -> tuple[View, ...]:
        """Return the machine images, the newest first."""
        found = sorted(self._installation.cloud.amis(), key=lambda ami: (-ami.created_at, ami.id))
        return tuple(map(self.show, found))

    def show(self, ami: Ami) -> View:
        """Return the view of the machine image, with whether new launches use it and whether its agent is current."""
        return from_records.ami(ami, in_use=self._in_use() == ami.id, current=ami.agent == self._sites.agent_sha256())

    def use(self, name: str) -> View | None:
        """Make new launches use this machine image, and return its view.

        With DEFAULT, new launches use the machine image of the settings, and None is returned. Raises NotFound, and
        Conflict for a machine image that is not available.
        """
        if name == DEFAULT:
            self._installation.store.choose(AMI, "", [self._audit("use AMI", DEFAULT)])
            return None
        ami = self._find(name)
        if ami is None:
            raise NotFound(f"no AMI {name} of this installation; `provision ami list` shows them")
        if ami.state is not AmiState.AVAILABLE:
            raise Conflict(f"{ami.id} is {ami.state}{f': {ami.reason}' if ami.reason else ''}")
        self._installation.store.choose(AMI, ami.id, [self._audit("use AMI", ami.id)])
        return self.show(ami)

    def delete(self, name: str) -> str:
        """Delete the machine image and its snapshots, also snapshots that an earlier try left; return its id.

        Raises NotFound, and Conflict while new launches use the machine image or a machine runs from it.
        """
        ami = self._find(name)
        id = ami.id if ami else name
        if id == self._in_use():
            another = (
                "`provision ami use` another"
                if self._installation.policy.image != id
                else "change `image` in the settings"
            )
            raise Conflict(f"cannot delete {id}: new launches use it; {another} first")
        living = [each for each in self._installation.cloud.machines().machines if each.state not in ENDING]
        users = [each.id for each in living if each.image == id]
        live = self._installation.store.live()
        users += [f"launch {each.id[:12]}" for each in live.launches if each.request.template.image.id == id]
        if users:
            raise Conflict(f"cannot delete {id}: {', '.join(users)} use it; try again when they have ended")
        self._installation.save([self._audit("delete AMI", id)])
        if not self._installation.cloud.delete_ami(id):
            raise NotFound(f"no AMI {name} of this installation, and no snapshot of it")
        return id

    def _audit(self, what: str, target: str) -> Audit:
        return self._installation.recorder.audit(self._caller, what, "", target)

    def _in_use(self) -> str:
        return self._installation.store.chosen(AMI) or self._installation.policy.image

    def _find(self, name: str) -> Ami | None:
        """Return the machine image with this name or id, or whose id begins with `name`; None without a match.

        Raises Invalid if several match.
        """
        amis = self._installation.cloud.amis()
        exact = [ami for ami in amis if name in (ami.id, ami.name)]
        found = exact or [ami for ami in amis if name.startswith("ami-") and ami.id.startswith(name)]
        if len(found) > 1:
            raise Invalid(f"{name} is the beginning of several AMIs: {', '.join(ami.id for ami in found)}")
        return found[0] if found else None

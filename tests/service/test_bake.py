"""An AMI is made, or nothing of it is left, whichever step fails or is interrupted."""

import dataclasses
from collections.abc import Callable
from typing import Any, cast

import pytest

from provisioner.core import errors
from provisioner.core.cloud.caps.budget import Caps
from provisioner.core.cloud.machine_images import AmiState
from provisioner.core.cloud.machines import MachineState
from provisioner.core.cloud.tags import LIFETIME_TAG
from provisioner.ports.shell import Host
from provisioner.rehearsal.ec2.conditions import Breakdown, Capacity, Conditions, PriceRule
from provisioner.service.ami.bake import LIFETIME, BakeRequest
from provisioner.service.ami.collection import Amis
from provisioner.service.control_loop.launch_sites import Agent, LaunchSites
from tests.service.kitchen import SCRIPTS, Deal, Kitchen
from tests.service.shell import DIGEST, KEYS
from tests.service.trouble import Crash
from tests.service.world import TESTER


def test_a_bake_makes_an_image_and_ends_its_builder() -> None:
    """The AMI's tags describe it; the builder's launch is closed and its machine ends."""
    kitchen = Kitchen()
    made = kitchen.bake(BakeRequest(preload=("registry.example/job:1",)))
    assert made.state is AmiState.AVAILABLE
    assert (made.base, made.preloaded, made.disk_gib) == ("ami-base", (DIGEST,), 100)
    [ran] = kitchen.cloud.model.every()
    assert (ran.tags[LIFETIME_TAG], ran.template.content.image) == (str(LIFETIME), "ami-base")
    assert kitchen.alive() == []
    [host] = kitchen.shell.hosts
    assert host == Host(ran.public_address, 22, "ubuntu", KEYS)
    assert set(kitchen.shell.sent) == {f"/tmp/provision-bake/{name}" for name in [*SCRIPTS, f"agent-{made.agent}.zip"]}
    scripts = [line.split("provision-bake/")[1] for line in kitchen.shell.lines if line.startswith("sudo -n sh ")]
    assert [line.split()[0] for line in scripts] == ["gpu/verify.sh", "prepare.sh", "preload.sh", "clean.sh"]
    assert "preload.sh / us-east-1 ssm:/registry registry.example/job:1" in scripts
    assert b"working\n" in kitchen.heard
    kitchen.settled()


def test_a_bake_counts_against_the_cap_of_the_day() -> None:
    """The builder is a machine like any other: two hours of it are committed, and what it used is spent."""
    kitchen = Kitchen(Conditions(prices=(PriceRule(0.1),)), Caps(0.3))
    kitchen.bake()
    [ran] = kitchen.cloud.model.every()
    launch = kitchen.store.launch(ran.tags["provision:launch"])
    assert launch
    assert (launch.hourly_at_most, launch.request.lifetime) == (0.1, LIFETIME)
    kitchen.settled()
    used = ran.history[-1].at - ran.launch_time
    assert used <= kitchen.store.spent(0.0, 1e12) * 36000 <= used + 600


def test_a_bake_beyond_the_cap_launches_nothing() -> None:
    kitchen = Kitchen(Conditions(prices=(PriceRule(0.1),)), Caps(0.05))
    with pytest.raises(errors.Failed, match=r"no builder was launched: .* over the .* of max_dollars_a_day"):
        kitchen.bake()
    assert kitchen.cloud.model.every() == []


def test_builder_uses_an_ssh_key_of_its_own() -> None:
    """The public key is in the user-data, the private key nowhere; the builder also has the security group for SSH."""
    kitchen = Kitchen()
    kitchen.bake()
    [ran] = kitchen.cloud.model.every()
    assert "ssh-ed25519 AAAAmine" in ran.template.content.user_data
    launch = kitchen.store.launch(ran.tags["provision:launch"])
    assert launch is not None
    assert launch.request.template.security_groups == ("sg-all", "sg-ssh")
    assert "private" not in repr(launch)
    assert kitchen.policy.installation in ran.tags.values()


def test_a_rehearsed_builder_is_told_where_aws_is() -> None:
    """The builder's script runs as root with this endpoint."""
    kitchen = Kitchen()
    kitchen.endpoint = "http://169.254.169.2:1"
    kitchen.bake(BakeRequest(preload=("registry.example/job:1",)))
    [line] = [line for line in kitchen.shell.lines if "preload.sh" in line]
    assert line.startswith("sudo -n env AWS_ENDPOINT_URL=http://169.254.169.2:1 sh /tmp/provision-bake/preload.sh / ")


@pytest.mark.parametrize("step", ["mkdir", "verify.sh", "prepare.sh", "preload.sh", "cat ", "clean.sh"])
def test_a_step_that_fails_fails_the_bake(step: str) -> None:
    """The error has the step's exit code; no AMI is made, and the builder ends."""
    kitchen = Kitchen()
    kitchen.shell.failing = step
    with pytest.raises(errors.Failed, match="7"):
        kitchen.bake(BakeRequest(preload=("job:1",)))
    assert (kitchen.alive(), kitchen.cloud.amis(), kitchen.shell.closed) == ([], (), 1)
    kitchen.settled()


def test_no_room_for_a_builder_says_so() -> None:
    """The error has every offer's reason, and no launch stays open."""
    kitchen = Kitchen(Conditions(capacity=(Capacity(0),)))
    with pytest.raises(errors.Failed, match="InsufficientInstanceCapacity"):
        kitchen.bake()
    kitchen.settled()


def test_a_builder_that_ends_by_itself_fails_the_bake() -> None:
    """The bake fails at once, with the cloud's reason."""
    kitchen = Kitchen(Conditions(boot_delay=20, breakdowns=(Breakdown(at=5.0),)))
    with pytest.raises(errors.Failed, match=r"Server\.InternalError"):
        kitchen.bake()
    kitchen.settled()


def test_an_unreachable_builder_says_what_to_open() -> None:
    """The error names the port, the security group, and an alternative."""
    kitchen = Kitchen()
    kitchen.shell.deaf = True
    with pytest.raises(errors.Failed, match=r"TCP port 22 .* sg-ssh.*private"):
        kitchen.bake()
    kitchen.settled()


def test_builder_without_host_keys_gets_no_connection() -> None:
    """The host keys come from the console, never from the server at the address."""
    kitchen = Kitchen()
    kitchen.cloud.console_of = _Mute()
    with pytest.raises(errors.Failed, match=r"no SSH host keys .*console ends: booting"):
        kitchen.bake()
    assert kitchen.shell.hosts == []
    kitchen.settled()


class _Mute(dict[str, str]):
    def setdefault(self, key: str, default: str = "") -> str:  # noqa: ARG002 - the machine prints only this
        return super().setdefault(key, "booting")


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        (BakeRequest(instance_type="x9.huge"), "x9.huge"),
        (BakeRequest(name="?"), "name"),
        (BakeRequest(preload=("--all",)), "--all"),
        (BakeRequest(preload=("x",) * 41), "40"),
    ],
)
def test_invalid_bake_request_is_refused_before_a_launch(wish: BakeRequest, told: str) -> None:
    """The input is invalid, and nothing was launched."""
    kitchen = Kitchen()
    with pytest.raises(errors.Invalid, match=told):
        kitchen.bake(wish)
    assert (kitchen.cloud.model.every(), kitchen.store.live().launches) == ([], ())


def test_a_taken_name_is_refused_and_its_image_stays() -> None:
    """The existing AMI keeps its name."""
    kitchen = Kitchen()
    first = kitchen.bake(BakeRequest(name="mine"))
    with pytest.raises(errors.Conflict, match=first.id):
        kitchen.bake(BakeRequest(name="mine"))
    assert [ami.id for ami in kitchen.cloud.amis()] == [first.id]


def test_an_image_that_fails_fails_the_bake() -> None:
    """The error has the cloud's reason, and the failed AMI is deleted."""
    kitchen = Kitchen()

    def deal(what: str, deed: Callable[[], Any]) -> Any:
        answer = deed()
        if what == "cloud.create_ami":
            kitchen.cloud.model.images.captured(answer, "Client.InternalError: no space")
        return answer

    with pytest.raises(errors.Failed, match="no space"):
        kitchen.bake(deal=deal)
    assert kitchen.cloud.amis() == ()
    kitchen.settled()


def test_passes_do_not_end_a_working_builder() -> None:
    """While the builder works, a daemon's passes do not end it, replay its launch, or call it foreign."""
    kitchen = Kitchen()

    def deal(_: str, deed: Callable[[], Any]) -> Any:
        kitchen.pass_()
        return deed()

    assert kitchen.bake(deal=deal).state is AmiState.AVAILABLE
    assert [one.state for one in kitchen.cloud.model.every()] == [MachineState.TERMINATED]


def _calls() -> list[str]:
    """Return every call of a port in a successful bake."""
    found: list[str] = []

    def deal(what: str, deed: Callable[[], Any]) -> Any:
        found.append(what)
        return deed()

    Kitchen(SHORT).bake(BakeRequest(preload=("job:1",)), deal)
    return found


#: Short delays give few calls, so that each call can be tried.
SHORT = Conditions(boot_delay=1, image_delay=1)


class At:
    """Ends one call, before or after its effect; with `for_good` all later calls fail."""

    def __init__(self, place: int, end: type[BaseException], *, after: bool, for_good: bool = False) -> None:
        self._place, self._end, self._after, self._for_good = place, end, after, for_good
        self._count = 0

    def __call__(self, _: str, deed: Callable[[], Any]) -> Any:
        mine, over = self._count == self._place, self._count > self._place
        self._count += 1
        if (over and self._for_good) or (mine and not self._after):
            raise self._end
        answer = deed()
        if mine:
            raise self._end
        return answer


@pytest.mark.parametrize("after", [False, True])
def test_an_interrupt_leaves_nothing(after: bool) -> None:
    """After Ctrl-C at any call, before or after its effect, no machine, AMI or open launch is left."""
    calls = _calls()
    assert {"store.save", "cloud.launch", "shell.run", "cloud.create_ami", "cloud.terminate"} <= set(calls)
    for place, call in enumerate(calls):
        kitchen = Kitchen(SHORT)
        with pytest.raises(KeyboardInterrupt):
            kitchen.bake(BakeRequest(preload=("job:1",)), At(place, KeyboardInterrupt, after=after))
        left = (kitchen.alive(), kitchen.cloud.amis(), kitchen.store.live().launches)
        assert left == ([], (), ()), f"{call} ({place})"
        kitchen.settled()


@pytest.mark.parametrize("after", [False, True])
def test_a_killed_bake_leaves_no_machine_beyond_its_lifetime(after: bool) -> None:
    """After kill -9 at any call, the reconciler ends the machine and closes the launch after the machine's lifetime."""
    for place in range(len(_calls())):
        kitchen = Kitchen(SHORT)
        with pytest.raises(Crash):
            kitchen.bake(BakeRequest(preload=("job:1",)), At(place, Crash, after=after, for_good=True))
        kitchen.pass_()
        kitchen.clock.step(LIFETIME)
        kitchen.settled()


@pytest.mark.parametrize("error", [errors.Transient("passing"), errors.Throttled("slow"), errors.NoAnswer("lost")])
def test_a_launch_that_is_not_answered_is_asked_again(error: Exception) -> None:
    """The same request is repeated, so there is only one builder."""
    kitchen = Kitchen()
    kitchen.cloud.lose_answer_of = ["launch"] if isinstance(error, errors.NoAnswer) else []

    def deal(what: str, deed: Callable[[], Any]) -> Any:
        if what == "cloud.launch" and not isinstance(error, errors.NoAnswer) and not spoiled:
            spoiled.append(what)
            raise error
        return deed()

    spoiled: list[str] = []
    assert kitchen.bake(deal=deal).state is AmiState.AVAILABLE
    assert len(kitchen.cloud.model.every()) == 1


def test_new_launches_take_the_chosen_image() -> None:
    """A running process uses the chosen AMI at once, and the settings' AMI again after `default`."""
    kitchen = Kitchen()
    sites = kitchen.sites(kitchen.installation())
    made, amis = kitchen.bake(), kitchen.amis()

    def template() -> Any:
        return sites.site("machine", ["g5.xlarge"]).template

    assert template().image.id == "ami-base"
    chosen = amis.use(made.name)
    assert chosen is not None
    assert (chosen.in_use, chosen.agent_current) == (True, True)
    assert (template().image.id, template().disk_gib) == (made.id, 100)
    assert amis.use("default") is None
    assert template().image.id == "ami-base"


def test_what_is_done_to_images_is_in_the_audit() -> None:
    """The audit has bake, use and delete with their caller; a refused change is not recorded."""
    kitchen = Kitchen()
    made, amis = kitchen.bake(BakeRequest(name="first")), kitchen.amis()
    amis.use(made.id)
    with pytest.raises(errors.Conflict):
        amis.delete(made.id)
    amis.use("default")
    amis.delete(made.id)
    told = [(each.who, each.what, each.target) for each in kitchen.store.audit(9)[::-1]]
    assert told == [
        ("local:tester", "bake AMI", made.name),
        ("local:tester", "use AMI", made.id),
        ("local:tester", "use AMI", "default"),
        ("local:tester", "delete AMI", made.id),
    ]


def test_an_image_in_use_is_not_deleted() -> None:
    """Neither the chosen AMI, nor the settings' own, nor one that a machine runs from can be deleted."""
    kitchen = Kitchen()
    made, amis = kitchen.bake(), kitchen.amis()
    amis.use(made.id)
    with pytest.raises(errors.Conflict, match="use"):
        amis.delete(made.id)
    second = kitchen.bake(BakeRequest(base=made.id, name="second"), _hold(amis, made.id))
    amis.use("default")
    kitchen.policy = dataclasses.replace(kitchen.policy, image=second.id)
    with pytest.raises(errors.Conflict, match="settings"):
        kitchen.amis().delete(second.id)
    assert amis.delete(made.name) == made.id
    with pytest.raises(errors.NotFound):
        amis.delete(made.id)
    assert [shown.id for shown in amis.list()] == [second.id]


def _hold(amis: Amis, id: str) -> Deal:
    """Assert that the first AMI cannot be deleted while the second builder runs from it."""

    def deal(what: str, deed: Callable[[], Any]) -> Any:
        if what == "shell.connect":
            amis.use("default")
            with pytest.raises(errors.Conflict, match="i-"):
                amis.delete(id)
        return deed()

    return deal


def test_a_pending_image_is_not_taken() -> None:
    """Machines cannot be launched from a pending AMI yet."""
    kitchen = Kitchen()
    tries: list[str] = []

    def deal(what: str, deed: Callable[[], Any]) -> Any:
        answer = deed()
        if what == "cloud.create_ami":
            with pytest.raises(errors.Conflict, match="pending"):
                kitchen.amis().use(answer)
            tries.append(answer)
        return answer

    kitchen.bake(deal=deal)
    assert len(tries) == 1


def test_an_older_agent_is_stale() -> None:
    """A machine of such an AMI fetches the current agent, and the list marks the AMI."""
    kitchen = Kitchen()
    kitchen.bake()
    installation = kitchen.installation()
    newer = LaunchSites(installation, Agent("2", lambda: b"newer"), lambda role, sha256: role + sha256)
    unused = cast(Any, None)
    [shown] = Amis(installation, newer, unused, TESTER).list()
    assert not shown.agent_current
    [shown] = kitchen.amis().list()
    assert shown.agent_current


def test_names_are_found_by_their_beginning() -> None:
    """An id may be shortened if it stays unique."""
    kitchen = Kitchen()
    first, second = (kitchen.bake(BakeRequest(name=name)) for name in ("one", "two"))
    with pytest.raises(errors.Invalid, match="several"):
        kitchen.amis().use("ami-")
    with pytest.raises(errors.NotFound):
        kitchen.amis().use("ami-nothing")
    assert first.id != second.id

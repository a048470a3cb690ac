"""The settings' limits are checked while the user can still react: at `apply` and at `start`."""

import json
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest

from provisioner.core.cloud.offers import Catalog, Market
from provisioner.core.errors import Invalid, Misconfigured, Transient
from provisioner.core.recipe.recipe import parse_recipe
from provisioner.core.views.job import Prices
from provisioner.rehearsal.ec2.conditions import Conditions, PriceRule, Quota, Where
from provisioner.service.control import OnBehalf
from provisioner.service.control_loop.launch_sites import CATALOG_TTL, UNLISTED_TTL
from provisioner.service.control_loop.loop import Intervals
from provisioner.service.jobs import CONFIRMED
from tests.service.world import TESTER, World, parts

SPEC = {"name": "job", "image": "i", "instance_type": "g5.xlarge", "command": "true"}


def text(**spec: object) -> str:
    return json.dumps({"type": "job", "spec": SPEC | spec})


def test_recipe_beyond_the_settings_is_refused_at_apply() -> None:
    """A job that could never start is not stored."""
    world = World()
    for spec, path in (
        ({"git_repositories": [{"url": "git@github.com:a/b.git"}]}, r"git_repositories\[0\]\.url"),
        ({"checkpoint": True}, "checkpoint"),
        ({"placement": {"subnets": ["subnet-z"]}}, r"placement\.subnets\[0\]"),
    ):
        with pytest.raises(Invalid, match=rf"f:1: spec\.{path}: "):
            world.jobs.apply(text(**spec), "f")
    assert not world.jobs.all()


def test_run_beyond_the_settings_is_refused_at_start() -> None:
    """The settings may have changed since the job was applied; no run is stored."""
    world = World()
    world.jobs.apply(text(), "f")
    (job,) = world.store.jobs()
    changed = parse_recipe(text(checkpoint=True), "f").dump()
    world.store.save([type(job)(**{**vars(job), "recipe": changed})])
    with pytest.raises(Invalid, match=r"start: spec\.checkpoint: "):
        world.runs.start("job", {})
    assert not world.store.runs()


def test_type_and_zone_that_ec2_does_not_have_are_refused_at_apply() -> None:
    """The errors have line numbers; no job is stored."""
    world = World()
    recipe = "type: job\nspec:\n  name: a\n  image: i\n  command: 'true'\n  instance_type: {}\n  placement: {}\n"
    for instance_type, placement, reason in (
        ("g5.xlrge", "{}", r"f:6: spec\.instance_type: .*did you mean g5\.xlarge\?"),
        ("m6i.large", "{}", r"f:6: spec\.instance_type: m6i\.large has no NVIDIA GPU"),
        ("g5.xlarge", "{zones: [eu-west-1a]}", r"f:7: spec\.placement\.zones\[0\]: .*no subnet in eu-west-1a"),
    ):
        with pytest.raises(Invalid, match=reason):
            world.jobs.apply(recipe.format(instance_type, placement), "f")
    assert not world.jobs.all()
    assert world.jobs.apply(recipe.format("m6i.large", "{gpu: none}"), "f").warnings == ()


def test_recipe_is_stored_with_a_warning_while_ec2_cannot_be_reached() -> None:
    """A network error must not prevent work on recipes, and later the same recipe gives no warning."""
    world = World()
    world.cloud.fail_next = [Transient("connection refused")]
    job = world.jobs.apply(text(), "f")
    assert job.warnings == (
        "the recipe is stored, but its instance types and zones were not checked: connection refused",
    )
    assert world.jobs.get("job").warnings == ()
    assert world.jobs.apply(text(), "f").warnings == ()


def test_new_subnet_of_the_settings_counts_within_a_minute() -> None:
    """The cached catalog may be an hour old, so a recipe is refused only after a look at a new catalog."""
    world = World()
    zone = "us-east-1d"
    world.jobs.apply(text(), "f")
    world.advance(CONFIRMED)
    world.cloud.subnets[zone] = f"subnet-{zone}"
    kind = world.cloud.types["g5.xlarge"]
    world.cloud.types = {**world.cloud.types, kind.name: replace(kind, zones=(*kind.zones, zone))}
    assert world.jobs.apply(text(placement={"zones": [zone]}), "f").revision == 2


def test_types_of_a_recipe_are_not_stored_and_are_looked_up_once_a_minute() -> None:
    """A user who applies the same misspelt recipe again and again causes no calls, and fills no store."""
    world, calls = World(), list[Collection[str]]()
    real = world.cloud.catalog

    def catalog(instance_types: Collection[str]) -> Catalog:
        calls.append(instance_types)
        return real(instance_types)

    world.cloud.catalog = catalog  # type: ignore[method-assign]
    for _ in range(5):
        with pytest.raises(Invalid):
            world.jobs.apply(text(instance_type="g5.xlrge"), "f")
    assert len(calls) == 1
    assert world.store.remembered("catalog g5.xlrge") is None
    world.jobs.apply(text(), "f")
    assert world.store.remembered("catalog g5.xlarge") is None


def test_misspelt_type_is_refused_without_a_suggestion_if_none_can_be_made() -> None:
    """The suggestion needs another call, which may fail; the recipe is wrong nevertheless."""
    world = World()

    def gpu_types() -> tuple[str, ...]:
        raise Transient("throttled")

    world.cloud.gpu_types = gpu_types  # type: ignore[method-assign]
    with pytest.raises(Invalid, match=r"no instance type g5\.xlrge$"):
        world.jobs.apply(text(instance_type="g5.xlrge"), "f")


def test_apply_says_what_an_hour_of_all_machines_costs() -> None:
    """They may be of any of the recipe's types. A price that is not known for all types is not guessed."""
    prices = (PriceRule(2.0, Where(type="g5.xlarge")), PriceRule(3.0, Where(type="g5.2xlarge")))
    world = World(Conditions(prices=prices))
    more = {"placement": {"instance_types": ["g5.2xlarge"]}}
    assert world.jobs.apply(text(scale=4), "f").hourly_dollars == 8.0
    assert world.jobs.apply(text(scale=4, **more), "f").hourly_dollars == 12.0
    assert world.jobs.apply(text(scale=4, instance_type="g6.xlarge"), "f").hourly_dollars is None
    assert world.jobs.apply(text(), "f").hourly_dollars is None


def quotas_read(world: World) -> list[str]:
    """Let the cloud record the codes of the quotas that are read from now on; return the record."""
    read, codes = world.cloud.quota, list[str]()

    def quota(code: str) -> int:
        codes.append(code)
        return read(code)

    world.cloud.quota = quota  # type: ignore[method-assign]
    return codes


def test_apply_says_that_the_quota_is_too_small_for_every_offer() -> None:
    """The job is stored: the quota may be raised before it starts. The value is read once an hour."""
    world = World(Conditions(quotas=(Quota(3, Where("on-demand", "g*")),)))
    codes = quotas_read(world)
    page = "https://console.aws.amazon.com/servicequotas/home/services/ec2/quotas/L-DB2E81BA"
    quota = "Running On-Demand G and VT instances (L-DB2E81BA)"
    said = (f"g5.xlarge needs 4 vCPUs, but the quota {quota} is 3, so runs cannot start; ask for more at {page}",)
    assert world.jobs.apply(text(), "f").warnings == said
    assert world.jobs.apply(text(), "f").warnings == said
    spot = {"use_spot_instance": True, "placement": {"spot_fallback": True}}
    assert world.jobs.apply(text(**spot), "f").warnings == ()
    assert codes == ["L-DB2E81BA", "L-3819A6DF"]
    world.cloud.model.conditions = Conditions()
    world.advance(CATALOG_TTL)
    assert world.jobs.apply(text(), "f").warnings == ()


def test_quota_that_cannot_be_read_is_no_reason_to_refuse_a_recipe() -> None:
    """It is not asked for again for ten minutes, because the right may be missing."""
    world = World()
    codes = quotas_read(world)
    failing = world.cloud.quota

    def denied(code: str) -> int:
        failing(code)
        raise Misconfigured("not authorized", "AccessDeniedException")

    world.cloud.quota = denied  # type: ignore[method-assign]
    assert world.jobs.apply(text(), "f").warnings == ()
    assert world.jobs.apply(text(), "f").warnings == ()
    world.advance(UNLISTED_TTL)
    assert world.jobs.apply(text(), "f").warnings == ()
    assert codes == ["L-DB2E81BA"] * 2


def test_apply_says_that_commands_share_gpus() -> None:
    world = World()
    found = world.jobs.apply(text(command=["a", "b", "c"], nprocs=2), "f").warnings
    assert found == ("2 commands share the 1 GPU of g5.xlarge by turns",)
    assert world.jobs.apply(text(command=["a", "b", "c"]), "f").warnings == ()


def test_apply_says_that_only_lists_use_the_options_of_lists() -> None:
    world = World()
    told = ("nprocs is for lists: `provision map` uses it, and runs of the single command ignore it",)
    assert world.jobs.apply(text(nprocs=2, placement={"gpu": "none"}), "f").warnings == told
    assert world.jobs.apply(text(command=["a"], nprocs=2, placement={"gpu": "none"}), "f").warnings == ()


def test_prices_of_a_job_are_those_of_all_offers_that_its_recipe_allows() -> None:
    """A price that is not known for all types and markets is not guessed."""
    prices = (
        PriceRule(2.0, Where(type="g5.xlarge")),
        PriceRule(3.0, Where(type="g5.2xlarge")),
        PriceRule(0.5, Where(market=Market.SPOT, type="g5.xlarge", zone="us-east-1a")),
    )
    world = World(Conditions(prices=prices))

    def found(**spec: Any) -> Prices:
        world.jobs.apply(text(**spec), "f")
        return world.jobs.prices("tester/job")

    assert found() == Prices(2.0, 2.0)
    assert found(placement={"instance_types": ["g5.2xlarge"]}, scale=4) == Prices(2.0, 3.0)
    assert found(use_spot_instance=True, placement={"zones": ["us-east-1a"]}) == Prices(0.5, 0.5)
    fallback = {"zones": ["us-east-1a"], "spot_fallback": True}
    assert found(use_spot_instance=True, placement=fallback) == Prices(0.5, 2.0)
    assert found(instance_type="g6.xlarge", placement={"instance_types": ["g5.xlarge"]}) == Prices(None, None)


def test_apply_of_a_run_with_several_machines_tells_how_long_each_may_exist() -> None:
    """Spot machines may work for three attempts, so they exist three times as long as one attempt may take."""
    world = World()
    released = world.jobs.apply(text(scale=4), "f").machine_lifetime
    assert released
    assert world.jobs.apply(text(scale=4, use_spot_instance=True), "f").machine_lifetime == 3 * released
    assert world.jobs.apply(text(), "f").machine_lifetime is None


def test_run_with_several_machines_needs_a_security_group_of_its_own() -> None:
    """Ports between its machines are open to all machines of the group, also to those of other owners."""
    world = World()
    shared = replace(world.installation.policy, profile_groups={}, security_groups=("sg-all",))
    assert shared.beside("tester") == ["richer"]
    assert shared.beside("rich") == ["machine"]
    assert replace(shared, profiles={}).beside("tester") == []
    assert replace(shared, profile_groups={"richer": ("sg-1", "sg-2")}).beside("rich") == []
    assert replace(shared, profile_groups={"richer": ("sg-1", "sg-all")}).beside("rich") == ["machine"]
    # Without any group, both have the default group of the VPC.
    assert replace(shared, security_groups=()).beside("rich") == ["machine"]
    jobs = OnBehalf(parts(replace(world.installation, policy=shared), "users", Intervals()), TESTER).jobs
    with pytest.raises(Invalid, match=r"spec\.scale: .* profile richer have the same group: give machine a group"):
        jobs.apply(text(scale=2), "f")

"""Store each launch before its call is made; then make the call, repeat it, or look up its machines."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from provisioner.core.cloud.launches import LaunchAnswer, LaunchedMachine, Refusal
from provisioner.core.cloud.offers import Market
from provisioner.core.cloud.reserved.reservations import Reservation
from provisioner.core.errors import ClockWrong, CloudError, Conflict, NeedsOperator, NoAnswer, Retryable
from provisioner.core.recipe.recipe import Recipe
from provisioner.core.run import story
from provisioner.core.run.launch_answers import answered, unfilled
from provisioner.core.run.launching import machines_left, plan_launches
from provisioner.core.run.lists.joining import as_planned, as_queued, joined
from provisioner.core.run.plan import Plan
from provisioner.core.run.progress import refuse
from provisioner.core.run.records import Assignment, KnownMachine, Launch, Live, Node, Record, Run
from provisioner.core.run.states import Waiting
from provisioner.core.run.survivors import kept
from provisioner.core.run.work_order import recipe_of
from provisioner.service.collectors import launch_templates, placement_groups
from provisioner.service.control_loop.launch_sites import LaunchSites, ReservationLooks
from provisioner.service.installation import Installation, budget_for

#: Seconds for which a launch request is repeated. EC2's client tokens live far longer (EC2 API, "Ensuring
#: idempotency").
REPLAY = 600.0
#: Seconds between the two listings by tag: listings have never been observed to lag for so long.
LIST_AGAIN = 60.0


class Launches:
    """Launches machines for queued runs, and binds the machines to the runs."""

    def __init__(self, installation: Installation, sites: LaunchSites) -> None:
        self._installation = installation
        self._sites = sites

    def store(self, plan: Plan, epoch: int) -> list[Launch]:
        """Store launches for due runs, and the causes for which the other due runs wait; return the launches."""
        if plan.due.refused:
            self._installation.save(self._planned(plan, plan.due.refused, {}, plan.now), epoch=epoch)
        by_profile: dict[str, list[tuple[Run, Recipe]]] = {}
        # Runs without a machine come first.
        for run, recipe in [*plan.due.runs, *((as_queued(run), recipe) for run, recipe, _ in plan.joins)]:
            by_profile.setdefault(self._installation.policy.profile_of(run.owner), []).append((run, recipe))
        launches = list[Launch]()
        for profile, waiting in by_profile.items():
            live = replace(plan.live, launches=(*plan.live.launches, *launches))
            launches += self._store_at(profile, waiting, plan, live, epoch)
        return launches

    def _store_at(
        self, profile: str, waiting: Sequence[tuple[Run, Recipe]], plan: Plan, live: Live, epoch: int
    ) -> list[Launch]:
        """Store the launches of runs with this instance profile; `live` has the launches that this pass stored before.

        The limits are the installation's: they count the machines of all profiles.
        """
        installation, now = self._installation, self._installation.now()
        waiting, reserved = self._reserved(waiting, plan, now, epoch)
        if not waiting:
            return []
        causes = {run.id: run.waiting for run, _ in waiting}
        failed_at = max((each.failed_at for each in plan.live.templates), default=0.0)
        try:
            site = self._sites.site(
                profile,
                {name for _, recipe in waiting for name in recipe.spec.instance_types},
                {name for _, recipe in waiting if self._needs_prices(recipe) for name in recipe.spec.instance_types},
                failed_at,
            )
        except CloudError as error:
            # Treat the error like the answer to a launch: a permanent error ends the runs; after others, the runs wait.
            self._save_unfilled(plan, waiting, error, now, epoch)
            return []
        room = machines_left(live, installation.policy.max_machines)
        budget = budget_for(installation.store, installation.policy.caps, live, now)
        droughts = {each.id: each for each in plan.live.droughts}
        health = {each.id: each for each in plan.live.templates}
        joins = {run.id: ranks for run, _, ranks in plan.joins}
        tokens = self._tokens()
        launched = plan_launches(waiting, site, droughts, health, room, now, tokens, plan.kept, joins, budget, reserved)
        refused = [refuse(run, reason, now) for run, reason in launched.refused]
        placement_groups.expect(installation, launched.launches)
        launch_templates.note(installation, launched.launches)
        records: list[Record] = [*launched.launches, *launched.templates]
        records += self._planned(plan, [*launched.runs, *refused], causes, now)
        stored = installation.save(records, epoch=epoch)
        return [each for each in stored if isinstance(each, Launch)]

    def _needs_prices(self, recipe: Recipe) -> bool:
        """Return whether a launch for the recipe needs the list prices of its types, which are read slowly."""
        spec, capped = recipe.spec, self._installation.policy.caps.dollars_a_day is not None
        limited = capped or spec.limits.cost is not None or spec.placement.max_price is not None
        return limited and spec.markets != (Market.SPOT,)

    def _reserved(
        self, waiting: Sequence[tuple[Run, Recipe]], plan: Plan, now: float, epoch: int
    ) -> tuple[Sequence[tuple[Run, Recipe]], Mapping[str, tuple[Reservation, ...]]]:
        """Return the runs that can be launched, and the reservations of those that are launched into one.

        Runs whose reservation cannot be looked up wait, or are refused.
        """
        found, ready = dict[str, tuple[Reservation, ...]](), list[tuple[Run, Recipe]]()
        looks = ReservationLooks(self._sites)
        for run, recipe in waiting:
            try:
                reserved = looks.of(recipe.spec, self._installation.policy.terms)
            except CloudError as error:
                self._save_unfilled(plan, [(run, recipe)], error, now, epoch)
            else:
                ready.append((run, recipe))
                found |= {run.id: reserved} if reserved else {}
        return ready, found

    def hold(self, plan: Plan, error: NeedsOperator, epoch: int) -> None:
        """Store that the due runs wait for the operator, without a call to the cloud."""
        self._save_unfilled(plan, plan.due.runs, error, plan.now, epoch)

    def _save_unfilled(
        self, plan: Plan, waiting: Sequence[tuple[Run, Recipe]], error: CloudError, now: float, epoch: int
    ) -> None:
        runs = [unfilled(run, (Refusal(error),), len(recipe.spec.markets), now) for run, recipe in waiting]
        causes = {run.id: run.waiting for run, _ in waiting}
        self._installation.save(self._planned(plan, runs, causes, now), epoch=epoch)

    @staticmethod
    def _planned(plan: Plan, runs: Iterable[Run], causes: Mapping[str, Waiting | None], now: float) -> list[Record]:
        """Return the runs to save after their launches were planned, with their events."""
        at_work, records = {run.id: run for run, _, _ in plan.joins}, list[Record]()
        queued = [run for run in runs if run.id not in at_work]
        for found in runs:
            if run := at_work.get(found.id):
                after = as_planned(run, found, now)
                records += [after, *story.joiners_wait(run, after, now)]
        return [*records, *queued, *story.planned(queued, causes, now)]

    def _tokens(self) -> Iterator[str]:
        while True:
            yield self._installation.ids.new()

    def perform(self, launch: Launch, epoch: int, *, again: bool) -> list[Node]:
        """Make the launch, or look up its machines; return the nodes that now have a machine.

        `again`: the call may have been made before. Then a refusal does not prove that no machine was launched.
        """
        cloud, check, now = self._installation.cloud, self._installation.check, self._installation.now()
        if launch.listed_at is not None or now > launch.created_at + REPLAY:
            return self._look_up(launch, epoch)
        stored = self._installation.store.launch(launch.id)
        if stored is None or stored.closed_at is not None:
            # This process stalled after it read the launch, and another process has closed it. No run waits for it.
            return []
        began = check.began()
        try:
            answer = cloud.launch(launch.request)
        except NoAnswer:
            return []
        except Conflict:
            return self._look_up(launch, epoch)
        except ClockWrong:
            # EC2 rejected the request because of its timestamp, so no machine was launched.
            raise
        except CloudError as error:
            if again:
                return [] if isinstance(error, Retryable) else self._look_up(launch, epoch)
            answer = LaunchAnswer(refusals=(Refusal(error),))
        if answer.at is not None:
            # This may be this process's first call to EC2. Compare the clock before the clock's time is stored.
            check.read(answer.at, began)
        return self._close(launch, answer, epoch)

    def _look_up(self, launch: Launch, epoch: int) -> list[Node]:
        """Find the machines by tag, because the launch cannot be repeated; list twice if machines are missing."""
        installation, now = self._installation, self._installation.now()
        if launch.listed_at is not None and now < launch.listed_at + LIST_AGAIN:
            return []
        found = installation.cloud.machines_of(launch.id)
        if len(found) < launch.request.count and launch.listed_at is None:
            installation.save([replace(launch, listed_at=now)], epoch=epoch)
            return []
        machines = tuple(LaunchedMachine(machine.id, machine.offer) for machine in found)
        refusals: tuple[Refusal, ...] = ()
        if len(machines) < launch.request.count:
            # The reason for the missing machines is unknown, so no offer may be recorded as out of capacity.
            refusals = (
                Refusal(
                    NoAnswer(
                        f"EC2's answer to the launch was lost, and EC2 lists {len(machines)} of "
                        f"{launch.request.count} machines"
                    )
                ),
            )
        return self._close(launch, LaunchAnswer(machines, refusals), epoch)

    def _close(self, launch: Launch, answer: LaunchAnswer, epoch: int) -> list[Node]:
        """Bind machines to runs and close the launch, in one transaction under the lease's epoch."""
        installation, store = self._installation, self._installation.store
        runs = [run for run in map(store.run, launch.runs) if run]
        machines = [self._machine(launch, machine) for machine in answer.machines]
        droughts = {each.id: each for each in store.live().droughts}
        for refusal in answer.refusals:
            installation.meter.refused(getattr(refusal.error, "code", ""))
        now = installation.now()
        if launch.ranks and not launch.request.together:
            run = runs[0] if runs else None
            records = joined(launch, run, machines, answer.refusals, droughts, epoch, now)
        else:
            again = self._kept(runs[0], now) if launch.ranks and runs else ()
            vcpus = self._sites.vcpus({offer.instance_type for offer in launch.request.offers})
            records = answered(launch, runs, machines, answer.refusals, droughts, epoch, now, again, vcpus)
        return [each for each in installation.save(records, epoch=epoch) if isinstance(each, Node)]

    def _kept(self, run: Run, now: float) -> list[Assignment]:
        """Return the nodes of the run's last attempt whose machines wait for the next attempt."""
        store = self._installation.store
        nodes = [node for node in store.nodes(run.id) if node.attempt == run.attempt]
        machines = {machine.id: machine for machine in store.machines([node.instance_id for node in nodes])}
        held = [Assignment(node, machines[node.instance_id]) for node in nodes]
        return kept(run, held, recipe_of(run), now)

    def _machine(self, launch: Launch, machine: LaunchedMachine) -> KnownMachine:
        template = launch.request.template
        return KnownMachine(
            machine.instance_id,
            launch.id,
            machine.offer,
            bound_at=self._installation.now(),
            # AWS lists no price for the hours of a Capacity Block, which is paid when it is bought.
            price=None if template.capacity_block else self._sites.price(machine.offer),
            disk_price=self._sites.price_list(machine.offer.instance_type).disk(template),
            lifetime=launch.request.lifetime,
            hourly_at_most=launch.hourly_at_most,
            reservation=template.reservation,
        )

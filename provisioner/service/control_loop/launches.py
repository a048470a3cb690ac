"""Promise before deed: launches are stored whole, then made, replayed or looked up, then closed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from provisioner.core.cloud.launches import LaunchAnswer, LaunchedMachine, Refusal
from provisioner.core.errors import ClockWrong, CloudError, Conflict, NoAnswer, Retryable
from provisioner.core.protocol.keys import mailbox
from provisioner.core.recipe.recipe import Recipe
from provisioner.core.run import capacity
from provisioner.core.run.launching import plan_launches
from provisioner.core.run.progress import refuse
from provisioner.core.run.records import Event, KnownMachine, Launch, Node, Record, Run
from provisioner.core.run.refusals import DRYING, unfilled
from provisioner.core.run.states import State, Waiting, transition
from provisioner.core.run.work_order import recipe_of
from provisioner.ports.store import Live
from provisioner.service.control_loop.launch_sites import LaunchSites
from provisioner.service.installation import Installation

#: How long the same request is replayed (EC2 API, "Ensuring idempotency": tokens live far longer).
REPLAY = 600.0
#: Between the two lists by tag: longer than any lag of listings that was seen.
LIST_AGAIN = 60.0


class Launches:
    """Everything between a queued run and a bound machine."""

    def __init__(self, installation: Installation, sites: LaunchSites) -> None:
        self._installation = installation
        self._sites = sites

    def plan(self, live: Live, epoch: int) -> list[Launch]:
        """Store the launches of the runs that are due, and why the others wait; the launches, stored."""
        now = self._installation.now()
        by_profile: dict[str, list[tuple[Run, Recipe]]] = {}
        unreadable: list[Run] = []
        for run in live.runs:
            if run.state is State.QUEUED and run.next_try_at <= now and not run.stop:
                recipe = recipe_of(run)
                if recipe is None:
                    unreadable.append(refuse(run, "another version wrote its recipe: apply it again", now))
                else:
                    by_profile.setdefault(self._sites.profile_of(run.owner), []).append((run, recipe))
        if unreadable:
            self._save_waiting(unreadable, {}, epoch)
        room = self._room(live)
        launches: list[Launch] = []
        for profile, waiting in by_profile.items():
            stored = self._plan_at(profile, waiting, live, room, epoch)
            launches.extend(stored)
            if room is not None:
                room -= sum(launch.request.count for launch in stored)
        return launches

    def _room(self, live: Live) -> int | None:
        most = self._installation.policy.max_machines
        if most is None:
            return None
        promised = sum(launch.request.count for launch in live.launches)
        return max(0, most - len(live.machines) - promised)

    def _plan_at(
        self, profile: str, waiting: Sequence[tuple[Run, Recipe]], live: Live, room: int | None, epoch: int
    ) -> list[Launch]:
        installation, now = self._installation, self._installation.now()
        causes = {run.id: run.waiting for run, _ in waiting}
        try:
            site = self._sites.site(profile, {name for _, recipe in waiting for name in recipe.spec.instance_types})
        except CloudError as error:
            # As after a launch: what can never be had ends the runs, all else lets them wait with the cause.
            refusals = (Refusal(error),)
            runs = [unfilled(run, refusals, len(recipe.spec.markets), now) for run, recipe in waiting]
            self._save_waiting(runs, causes, epoch)
            return []
        droughts = {each.id: each for each in live.droughts}
        health = {each.id: each for each in live.templates}
        plan = plan_launches(waiting, site, droughts, health, room, now, self._tokens())
        refused = [refuse(run, reason, now) for run, reason in plan.refused]
        news = self._news(causes, [*plan.runs, *refused])
        records: list[Record] = [*plan.launches, *plan.runs, *refused, *plan.templates, *news]
        stored = installation.save(records, epoch=epoch)
        return [each for each in stored if isinstance(each, Launch)]

    def _save_waiting(self, runs: Sequence[Run], causes: Mapping[str, Waiting | None], epoch: int) -> None:
        records: list[Record] = [*runs, *self._news(causes, runs)]
        self._installation.save(records, epoch=epoch)

    def _news(self, causes: Mapping[str, Waiting | None], runs: Sequence[Run]) -> list[Event]:
        """What a plan adds to the runs' stories: another cause to wait than before, or that none will help."""
        news = []
        for run in runs:
            if run.state is State.STOPPING and run.verdict:
                text = f"{run.state}: {run.verdict.outcome}, {run.verdict.reason}"
                news.append(self._installation.event(run, text))
            elif run.waiting and run.waiting is not causes.get(run.id):
                news.append(self._installation.event(run, f"waits, {run.waiting}: {run.waiting_for}"))
        return news

    def _tokens(self) -> Iterator[str]:
        while True:
            yield self._installation.ids.new()

    def perform(self, launch: Launch, epoch: int, *, again: bool) -> list[Node]:
        """Make the launch, or find out what became of it; the nodes that now have a machine.

        `again`: it may have been made before, so a refusal now says nothing of what came of it then.
        """
        cloud, check, now = self._installation.cloud, self._installation.check, self._installation.now()
        if launch.listed_at is not None or now > launch.created_at + REPLAY:
            return self._look_up(launch, epoch)
        stored = self._installation.store.launch(launch.id)
        if stored is None or stored.closed_at is not None:
            # This process stood still since it read the launch, and another one has closed it: nobody waits for it.
            return []
        began = check.began()
        try:
            answer = cloud.launch(launch.request)
        except NoAnswer:
            return []
        except Conflict:
            return self._look_up(launch, epoch)
        except ClockWrong:
            # EC2 refused the request because of its time, so it launched nothing.
            raise
        except CloudError as error:
            if again:
                return [] if isinstance(error, Retryable) else self._look_up(launch, epoch)
            answer = LaunchAnswer(refusals=(Refusal(error),))
        if answer.at is not None:
            # This may be the process's first call to EC2: compare the clock before a machine is bound at its time.
            check.read(answer.at, began)
        return self._close(launch, answer, epoch)

    def _look_up(self, launch: Launch, epoch: int) -> list[Node]:
        """The token is of no more use: list by tag, twice, and take what is there."""
        installation, now = self._installation, self._installation.now()
        if launch.listed_at is not None and now < launch.listed_at + LIST_AGAIN:
            return []
        found = installation.cloud.machines_of(launch.id)
        if not found and launch.listed_at is None:
            installation.save([replace(launch, listed_at=now)], epoch=epoch)
            return []
        machines = tuple(LaunchedMachine(machine.id, machine.offer) for machine in found)
        refusals: tuple[Refusal, ...] = ()
        if len(machines) < launch.request.count:
            # The reason for the missing machines is unknown: it is not a lack of capacity, and no offer becomes dry.
            refusals = (
                Refusal(NoAnswer("EC2's answer to the launch was lost, and its listings show no machine of it")),
            )
        return self._close(launch, LaunchAnswer(machines, refusals), epoch)

    def _close(self, launch: Launch, answer: LaunchAnswer, epoch: int) -> list[Node]:
        """Bind machines to runs, under the lease's epoch and in one transaction with the launch's end."""
        installation, now = self._installation, self._installation.now()
        runs = [run for run in map(installation.store.run, launch.runs) if run and run.launch == launch.id]
        waiting = [run for run in runs if run.state is State.LAUNCHING]
        records: list[Record] = []
        for run, machine in zip(waiting, answer.machines, strict=False):
            records += self._bound(launch, run, machine, epoch)
        for machine in answer.machines[len(waiting) :]:
            spare = self._machine(launch, machine)
            records.append(replace(spare, end_wanted_at=now, end_wanted_for="no run waits for it"))
        for run in waiting[len(answer.machines) :]:
            recipe = recipe_of(run)
            waits = unfilled(run, answer.refusals, len(recipe.spec.markets) if recipe else 1, now)
            why = (
                f"{waits.waiting}: {waits.waiting_for}"
                if waits.waiting
                else str(waits.verdict and waits.verdict.reason)
            )
            records += [waits, installation.event(run, f"no machine ({why})", launch=launch.id)]
        records += self._droughts(launch, answer)
        for refusal in answer.refusals:
            installation.meter.refused(getattr(refusal.error, "code", ""))
        text = f"{len(answer.machines)} of {launch.request.count} machines"
        records.append(replace(launch, closed_at=now, result=text))
        stored = installation.save(records, epoch=epoch)
        return [each for each in stored if isinstance(each, Node)]

    def _bound(self, launch: Launch, run: Run, machine: LaunchedMachine, epoch: int) -> list[Record]:
        installation, attempt = self._installation, run.attempt + 1
        node = Node(
            id=f"{run.id}.{attempt}.0",
            run=run.id,
            attempt=attempt,
            rank=0,
            launch=launch.id,
            template=launch.request.template.name,
            instance_id=machine.instance_id,
            box=mailbox(launch.request.template.role_id, machine.instance_id),
            bound_at=installation.now(),
            epoch=epoch,
        )
        state = transition(run.state, State.BOOTING)
        bound = replace(run, state=state, attempt=attempt, dry_launches=0, tier=0, waiting=None, waiting_for="")
        text = f"attempt {attempt}: {machine.instance_id}, {machine.offer}"
        event = installation.event(bound, text, instance_id=machine.instance_id, launch=launch.id)
        return [node, bound, self._machine(launch, machine), event]

    def _machine(self, launch: Launch, machine: LaunchedMachine) -> KnownMachine:
        return KnownMachine(
            machine.instance_id,
            launch.id,
            machine.offer,
            bound_at=self._installation.now(),
            price=self._sites.price(machine.offer),
            disk_price=self._sites.price_list(machine.offer.instance_type).disk(launch.request.template),
        )

    def _droughts(self, launch: Launch, answer: LaunchAnswer) -> list[Record]:
        refused = [
            (refusal.offer, refusal.error.code)
            for refusal in answer.refusals
            if refusal.offer and isinstance(refusal.error, DRYING)
        ]
        known = {each.id: each for each in self._installation.store.live().droughts}
        zones = set(launch.request.subnets)
        given = [machine.offer for machine in answer.machines]
        return list(capacity.after_refusals(refused, given, known, zones, self._installation.now()))

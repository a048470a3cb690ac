"""The implementation of provisioner.ports.control.control.Control for one installation in this process."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import TYPE_CHECKING

from provisioner.core.access.callers import Caller
from provisioner.ports.ids import Ids
from provisioner.service.installation import Installation
from provisioner.service.jobs import Jobs
from provisioner.service.operator import Operator
from provisioner.service.runs import Runs

# A command uses few of these modules, and importing all of them would take most of its time.
if TYPE_CHECKING:
    from provisioner.service.access.sessions import Sessions
    from provisioner.service.access.tokens import Gate, Tokens
    from provisioner.service.acting import Acting
    from provisioner.service.control_loop.launch_sites import LaunchSites
    from provisioner.service.control_loop.lists.texts import Texts
    from provisioner.service.control_loop.loop import Loop
    from provisioner.service.history.reading import History
    from provisioner.service.lists.reading import Commands
    from provisioner.service.lists.uploads import Uploads
    from provisioner.service.log_lines.lines import Lines
    from provisioner.service.logs import Logs
    from provisioner.service.schedules import Schedules
    from provisioner.service.ssh_entry.entrance import Entrance
    from provisioner.service.tally import Tally
    from provisioner.service.usage.reading import Usage


class Parts:
    """The parts of one process that the services of all its callers share. Each is made at its first use."""

    def __init__(
        self,
        installation: Installation,
        sites: Callable[[], LaunchSites],
        loop: Callable[[LaunchSites], Loop],
        entrance: Callable[[], Entrance],
    ) -> None:
        self.installation = installation
        self._sites, self._loop, self._entrance = sites, loop, entrance

    @cached_property
    def sites(self) -> LaunchSites:
        return self._sites()

    @cached_property
    def loop(self) -> Loop:
        return self._loop(self.sites)

    @cached_property
    def entrance(self) -> Entrance:
        return self._entrance()

    @cached_property
    def texts(self) -> Texts:
        from provisioner.service.control_loop.lists.texts import Texts

        return Texts(self.installation.store, self.installation.bucket)

    @cached_property
    def lines(self) -> Lines:
        from provisioner.service.log_lines.lines import Lines

        return Lines(self.installation.bucket, self.installation.pool, self.installation.clock)

    @cached_property
    def gate(self) -> Gate:
        from provisioner.service.access.tokens import Gate

        return Gate(self.installation.store, self.installation.clock)

    @cached_property
    def sessions(self) -> Sessions:
        from provisioner.service.access.sessions import Sessions

        ours = self.installation
        return Sessions(ours.store, ours.clock, ours.ids, self.gate)

    def acting(self, jobs: Jobs) -> Acting:
        """Return what acts on the cloud; `jobs` starts the jobs that are due."""
        from provisioner.service.acting import Acting
        from provisioner.service.due_schedules import DueSchedules

        return Acting(self.installation, self.loop, DueSchedules(self.installation, jobs), self.sites)


class OnBehalf:
    """The services of an installation for one caller. Each is made at its first use, in microseconds."""

    def __init__(self, parts: Parts, caller: Caller) -> None:
        self._parts = parts
        self._installation = parts.installation
        self.caller = caller

    @cached_property
    def jobs(self) -> Jobs:
        ours, parts = self._installation, self._parts
        return Jobs(ours.store, ours.recorder, ours.clock, ours.ids, ours.policy, lambda: parts.sites, self.caller)

    @cached_property
    def runs(self) -> Runs:
        ours = self._installation
        return Runs(ours.store, ours.recorder, ours.clock, ours.policy, self.jobs, self.caller)

    @cached_property
    def schedules(self) -> Schedules:
        from provisioner.service.schedules import Schedules

        return Schedules(self._installation.store, self._installation.clock, self.jobs)

    @cached_property
    def history(self) -> History:
        from provisioner.service.history.reading import History

        return History(self._installation.store, self._installation.clock, self.jobs, self.caller)

    @cached_property
    def logs(self) -> Logs:
        from provisioner.service.logs import Logs

        ours = self._installation
        parts = self._parts
        return Logs(ours.store, ours.bucket, ours.clock, self.runs, parts.lines, parts.entrance, self._host)

    @cached_property
    def commands(self) -> Commands:
        from provisioner.service.lists.acting import Acting
        from provisioner.service.lists.reading import Commands

        ours, texts = self._installation, self._parts.texts
        acting = Acting(ours.store, ours.recorder, ours.clock, texts, self.jobs, self.runs, self.uploads, self.caller)
        return Commands(ours.store, ours.bucket, ours.pool, ours.clock, texts, self.runs, acting)

    @cached_property
    def uploads(self) -> Uploads:
        from provisioner.service.lists.uploads import Uploads

        ours = self._installation
        ports = ours.store, ours.bucket, ours.pool, ours.recorder, ours.clock, ours.ids
        return Uploads(*ports, ours.policy, self.caller)

    @cached_property
    def usage(self) -> Usage:
        from provisioner.service.usage.reading import Usage

        return Usage(self._installation.store, self._installation.clock, self.caller)

    @cached_property
    def tokens(self) -> Tokens:
        from provisioner.service.access.tokens import Tokens

        ours = self._installation
        return Tokens(ours.store, ours.recorder, ours.clock, ours.ids, self._parts.gate, self.caller)

    @cached_property
    def operator(self) -> Operator:
        parts, ours = self._parts, self._installation
        return Operator(ours.store, ours.clock, self.runs, lambda: parts.entrance, self.caller, lambda: self._host)

    def wake(self) -> None:
        self._installation.clock.wake()

    def impatient(self) -> AbstractContextManager[None]:
        return nullcontext()

    def close(self) -> None:
        """Do nothing: the process that opened the installation closes it."""

    @property
    def _host(self) -> Acting | None:
        """What acts on the cloud; None for a caller with a token, who may not do the control host's work."""
        return None


class Service(OnBehalf):
    """The services for the process that opened the installation, which can act on the cloud."""

    @property
    def installation(self) -> Installation:
        return self._installation

    @cached_property
    def acting(self) -> Acting:
        return self._parts.acting(self.jobs)

    @property
    def _host(self) -> Acting:
        return self.acting

    @property
    def gate(self) -> Gate:
        """Accepts or rejects the tokens of all callers of this process."""
        return self._parts.gate

    @property
    def sessions(self) -> Sessions:
        """The logins of the page."""
        return self._parts.sessions

    def prepare(self) -> None:
        """Make every service now, so that no request waits for an import."""
        _ = self.schedules, self.history, self.logs, self.commands, self.tokens, self.acting

    def on_behalf(self, caller: Caller) -> OnBehalf:
        """Return the services for a caller with a token."""
        return OnBehalf(self._parts, caller)

    def tally(self) -> Tally:
        """Return the counts of the store's records, for metrics."""
        from provisioner.service.tally import tally

        return tally(self._installation.store, self._installation.clock.now())

    @property
    def ids(self) -> Ids:
        return self._installation.ids

    def close(self) -> None:
        if "acting" in vars(self):
            self.acting.release()
        self._installation.store.close()
        self._installation.journal.close()

"""One stack: its operations, its events, and what they leave behind when they fail.

States and their order are those of the CloudFormation User Guide ("Stack status codes", "Understand update behaviors of
stack resources", "DeletionPolicy attribute").
"""

import dataclasses
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from provisioner.rehearsal.aws.stacks import templates
from provisioner.rehearsal.aws.stacks.kinds import KINDS, Made
from provisioner.rehearsal.aws.stacks.services import Services

#: The type of the events of a stack itself.
STACK = "AWS::CloudFormation::Stack"


@dataclass(frozen=True)
class Event:
    id: str
    logical: str
    physical: str
    type: str
    status: str
    reason: str
    at: float


@dataclass(frozen=True)
class Resource:
    logical: str
    type: str
    made: Made
    #: Its properties with the values of functions.
    properties: Mapping[str, Any]
    #: Whether it stays when the stack is deleted, or when it leaves the template.
    kept: bool


class Failed(Exception):
    """An operation on a resource failed, for this reason."""


@dataclass
class Stack:
    name: str
    id: str
    template: Mapping[str, Any]
    tags: Mapping[str, str]
    created: float
    now: Callable[[], float]
    status: str = ""
    reason: str = ""
    resources: dict[str, Resource] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    outputs: Mapping[str, str] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def note(self, status: str, reason: str = "") -> None:
        """Enter a state."""
        with self.lock:
            self.status, self.reason = status, reason
            self._event(self.name, self.id, STACK, status, reason)

    def _event(self, logical: str, physical: str, type: str, status: str, reason: str = "") -> None:
        with self.lock:
            self.events.append(Event(uuid.uuid4().hex, logical, physical, type, status, reason, self.now()))

    # Operations; each of them ends in a state that is not in progress.

    def create(self, api: Services) -> None:
        made: list[str] = []
        try:
            self._make(api, self.template, made)
        except Failed:
            failed = f"The following resource(s) failed to create: [{made[-1]}]. Rollback requested by user."
            self.note("ROLLBACK_IN_PROGRESS", failed)
            self._remove_all(api, keep=False, done="ROLLBACK_COMPLETE", failed="ROLLBACK_FAILED")
            return
        self.outputs = self._outputs(self.template)
        self.note("CREATE_COMPLETE")

    def update(self, api: Services, template: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        before = dict(self.resources)
        touched: list[str] = []
        try:
            replaced = self._make(api, template, touched)
        except Failed:
            self.note("UPDATE_ROLLBACK_IN_PROGRESS", f"The following resource(s) failed to update: [{touched[-1]}].")
            self.note(self._roll_back(api, before, touched))
            return
        self.note("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")
        gone = [one for name, one in self.resources.items() if name not in template["Resources"]]
        for one in [*replaced, *gone[::-1]]:
            # A resource that cannot be deleted after an update leaves the stack all the same (User Guide, "Update
            # behaviors": cleanup failures do not fail the update).
            self._remove(api, one, keep=one.kept)
        for one in gone:
            del self.resources[one.logical]
        self.template, self.tags = template, tags
        self.outputs = self._outputs(template)
        self.note("UPDATE_COMPLETE")

    def delete(self, api: Services) -> None:
        self._remove_all(api, keep=True, done="DELETE_COMPLETE", failed="DELETE_FAILED")

    # Steps

    def _make(self, api: Services, template: Mapping[str, Any], touched: list[str]) -> list[Resource]:
        """Make or update the resources of the template; return those that were replaced.

        Adds the id of each resource before it is changed to `touched`. Raises Failed.
        """
        replaced: list[Resource] = []
        for name in templates.order(template["Resources"]):
            given = template["Resources"][name]
            properties = templates.resolved(given.get("Properties", {}), lambda other: self.resources[other].made)
            kept = given.get("DeletionPolicy", "Delete") != "Delete"
            old = self.resources.get(name)
            if old and old.type == given["Type"] and old.properties == properties:
                self.resources[name] = dataclasses.replace(old, kept=kept)
                continue
            touched.append(name)
            new = Resource(name, given["Type"], Made(""), properties, kept)
            made = self._change(api, old, new) if old else None
            if made is None:
                if old:
                    replaced.append(old)
                made = self._create(api, new)
            self.resources[name] = dataclasses.replace(new, made=made)
        return replaced

    def _create(self, api: Services, new: Resource) -> Made:
        return self._try("CREATE", new, lambda: KINDS[new.type].create(api, new.properties))

    def _change(self, api: Services, old: Resource, new: Resource) -> Made | None:
        """Update a resource in place; return None if its change needs a new resource."""
        kind = KINDS[old.type]
        keys = {key for key in {*old.properties, *new.properties} if old.properties.get(key) != new.properties.get(key)}
        update = kind.update
        if update is None or old.type != new.type or keys & kind.fixed:
            return None

        def change() -> Made:
            update(api, old.made.id, new.properties, old.properties)
            return old.made

        return self._try("UPDATE", dataclasses.replace(new, made=old.made), change)

    def _try(self, verb: str, one: Resource, act: Callable[[], Made]) -> Made:
        self._event(one.logical, one.made.id, one.type, f"{verb}_IN_PROGRESS")
        try:
            made = act()
        except ClientError as error:
            said = error.response["Error"]
            reason = f'Resource handler returned message: "{said["Message"]}" (HandlerErrorCode: {said["Code"]})'
            self._event(one.logical, one.made.id, one.type, f"{verb}_FAILED", reason)
            raise Failed(reason) from error
        self._event(one.logical, made.id, one.type, f"{verb}_COMPLETE")
        return made

    def _remove(self, api: Services, one: Resource, *, keep: bool) -> bool:
        """Delete a resource; return False if that failed. A resource that is gone already counts as deleted."""
        if keep:
            self._event(one.logical, one.made.id, one.type, "DELETE_SKIPPED")
            return True
        kind = KINDS[one.type]

        def act() -> Made:
            if _there(api, one):
                kind.delete(api, one.made.id, one.properties)
            return one.made

        try:
            self._try("DELETE", one, act)
        except Failed:
            return False
        return True

    def _remove_all(self, api: Services, *, keep: bool, done: str, failed: str) -> None:
        """Delete all resources, the last one first; with `keep`, those with a policy for that stay."""
        stuck = []
        for name in list(self.resources)[::-1]:
            if self._remove(api, self.resources[name], keep=keep and self.resources[name].kept):
                del self.resources[name]
            else:
                stuck.append(name)
        reason = f"The following resource(s) failed to delete: [{', '.join(stuck)}]. " if stuck else ""
        self.note(failed if stuck else done, reason)

    def _roll_back(self, api: Services, before: Mapping[str, Resource], touched: list[str]) -> str:
        """Undo an update; return the state of the stack then."""
        fine = True
        for name in touched[::-1]:
            new, old = self.resources.get(name), before.get(name)
            if new is None or new is old:
                continue
            if old is None or new.made.id != old.made.id:
                fine = self._remove(api, new, keep=False) and fine
            else:
                try:
                    self._change(api, new, old)
                except Failed:
                    fine = False
            if old is None:
                del self.resources[name]
            else:
                self.resources[name] = old
        return "UPDATE_ROLLBACK_COMPLETE" if fine else "UPDATE_ROLLBACK_FAILED"

    def _outputs(self, template: Mapping[str, Any]) -> dict[str, str]:
        return {
            name: templates.resolved(one["Value"], lambda other: self.resources[other].made)
            for name, one in template.get("Outputs", {}).items()
        }

    def drift(self, api: Services) -> dict[str, list[str]]:
        """Return the paths of the properties that differ, by the resource's id; `[]` for one that is gone."""
        found: dict[str, list[str]] = {}
        for name, one in list(self.resources.items()):
            if not _there(api, one):
                found[name] = []
            elif paths := KINDS[one.type].differs(api, one.made.id, one.properties):
                found[name] = paths
        return found


def _there(api: Services, one: Resource) -> bool:
    try:
        return bool(KINDS[one.type].exists(api, one.made.id, one.properties))
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if "NotFound" in code or code in ("404", "NoSuchEntity", "NoSuchBucket"):
            return False
        raise

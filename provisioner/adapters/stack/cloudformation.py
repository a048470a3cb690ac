"""Create, update, compare and delete one stack of CloudFormation, with a line for each thing that happens."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from provisioner.adapters.stack.calls import SetupCalls
from provisioner.core.errors import CloudError, Misconfigured

#: States of a stack that can only be deleted (CloudFormation User Guide, "Stack status codes").
RUINED = frozenset({"CREATE_FAILED", "DELETE_FAILED", "REVIEW_IN_PROGRESS", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED"})
#: The state of a stack that CloudFormation could not bring back to what it was before an update.
STUCK = "UPDATE_ROLLBACK_FAILED"
DELETED = "DELETE_COMPLETE"
#: Needed for roles with names (CloudFormation API, CreateStack).
_CAPABILITIES = ["CAPABILITY_NAMED_IAM"]
#: The type of the events of a stack itself.
_STACK = "AWS::CloudFormation::Stack"
_UNCHANGED = "No updates are to be performed"


@dataclass(frozen=True)
class Stack:
    id: str
    status: str
    outputs: Mapping[str, str]
    tags: Mapping[str, str]

    @property
    def changing(self) -> bool:
        return self.status.endswith("_IN_PROGRESS") and self.status not in RUINED


class Stacks:
    """The stack with this name. A method that yields lines ends when the operation has ended."""

    def __init__(
        self, calls: SetupCalls, name: str, *, interval: float = 2.0, wait: Callable[[float], None] = time.sleep
    ) -> None:
        """`interval` is the time between two looks at an operation, in seconds."""
        self._calls, self._name = calls, name
        self._interval, self._wait = interval, wait

    def find(self, id: str = "") -> Stack | None:
        """Return the stack, or None. A deleted stack is found by its id only."""
        try:
            [found] = self._call("describe_stacks", StackName=id or self._name)["Stacks"]
        except CloudError as error:
            if error.code == "ValidationError" and "does not exist" in str(error):
                return None
            raise
        return Stack(
            found["StackId"],
            found["StackStatus"],
            {one["OutputKey"]: one["OutputValue"] for one in found.get("Outputs", [])},
            {one["Key"]: one["Value"] for one in found.get("Tags", [])},
        )

    def settled(self) -> Iterator[str]:
        """Follow an operation on the stack that another process has begun, if there is one."""
        stack = self.find()
        if stack and stack.changing:
            yield f"another command changes the stack {self._name} ({stack.status}): waiting for its end"
            yield from self._follow(stack.id)

    def resources(self) -> dict[str, str]:
        """Return the id of each resource of the stack, by its id within the template; none without a stack."""
        if self.find() is None:
            return {}
        found = self._calls.pages(
            "cloudformation", "list_stack_resources", "StackResourceSummaries", StackName=self._name
        )
        return {
            one["LogicalResourceId"]: one["PhysicalResourceId"]
            for one in found
            if one.get("PhysicalResourceId") and one["ResourceStatus"] != DELETED
        }

    def apply(self, text: str, tags: Mapping[str, str]) -> Iterator[str]:
        """Create the stack, or update it. Raises Misconfigured if that fails; CloudFormation then undoes it.

        The stack of an earlier creation that failed is deleted first, as CloudFormation requires. If another process
        changes the stack at the same time, this waits for its end.
        """
        parameters = {
            "StackName": self._name,
            "TemplateBody": text,
            "Capabilities": _CAPABILITIES,
            "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
        }
        while True:
            yield from self.settled()
            stack = self.find()
            if stack and stack.status == STUCK:
                raise Misconfigured(
                    f"the stack {self._name} is in state {STUCK}: repair the resource that its events name, run"
                    f" `aws cloudformation continue-update-rollback --stack-name {self._name}`, and set up again"
                )
            if stack and stack.status in RUINED:
                yield f"the stack {self._name} is in state {stack.status}: deleting it before it is made again"
                yield from self.delete()
                continue
            try:
                if stack:
                    last = self._last_event(stack.id)
                    self._call("update_stack", **parameters)
                    done, id = "UPDATE_COMPLETE", stack.id
                else:
                    last = ""
                    id = self._call("create_stack", **parameters)["StackId"]
                    done = "CREATE_COMPLETE"
            except CloudError as error:
                if _UNCHANGED in str(error):
                    return
                if not _changed_by_another(error):
                    raise
                self._wait(self._interval)
                continue
            yield from self._follow(id, last)
            self._check(id, done, last)
            return

    def delete(self) -> Iterator[str]:
        """Delete the stack; raises Misconfigured if a resource cannot be deleted."""
        stack = self.find()
        if stack is None:
            return
        last = self._last_event(stack.id)
        self._call("delete_stack", StackName=stack.id)
        yield from self._follow(stack.id, last)
        self._check(stack.id, DELETED, last)

    def drift(self) -> Iterator[str]:
        """Yield a line for each resource that differs from the template, because somebody changed or deleted it."""
        id = self._call("detect_stack_drift", StackName=self._name)["StackDriftDetectionId"]
        while True:
            found = self._call("describe_stack_drift_detection_status", StackDriftDetectionId=id)
            if found["DetectionStatus"] != "DETECTION_IN_PROGRESS":
                break
            self._wait(self._interval)
        if found["DetectionStatus"] == "DETECTION_FAILED":
            yield f"differences could not be detected: {found.get('DetectionStatusReason', 'no reason is given')}"
        wanted = ["DELETED", "MODIFIED"]
        drifts = self._calls.pages(
            "cloudformation",
            "describe_stack_resource_drifts",
            "StackResourceDrifts",
            StackName=self._name,
            StackResourceDriftStatusFilters=wanted,
        )
        for one in drifts:
            what = f"{one['ResourceType']} {one.get('PhysicalResourceId', one['LogicalResourceId'])}"
            if one["StackResourceDriftStatus"] == "DELETED":
                yield f"{what} was deleted outside of the stack"
            for change in one.get("PropertyDifferences", []):
                yield f"{what} was changed: {change['PropertyPath']}"

    def _call(self, operation: str, **parameters: Any) -> Any:
        return self._calls.call("cloudformation", operation, **parameters)

    def _follow(self, id: str, last: str | None = None) -> Iterator[str]:
        """Yield the stack's events and the ends of its resources as lines, until the operation ends.

        The lines begin after the event `last`, or after the newest one if it is None.
        """
        last = self._last_event(id) if last is None else last
        while True:
            # The state is read before the events, so that the last one is not missed.
            stack = self.find(id)
            for event in self._events(id, last):
                last = event["EventId"]
                # Of a resource, only its end is shown.
                if event["ResourceType"] == _STACK or not event["ResourceStatus"].endswith("_IN_PROGRESS"):
                    yield _line(event)
            if stack is None or not stack.changing:
                return
            self._wait(self._interval)

    def _events(self, id: str, last: str) -> list[Mapping[str, Any]]:
        """Return the events after the one with the id `last`, oldest first."""
        found = []
        for event in self._calls.pages("cloudformation", "describe_stack_events", "StackEvents", StackName=id):
            if event["EventId"] == last:
                break
            found.append(event)
        return found[::-1]

    def _last_event(self, id: str) -> str:
        found = self._call("describe_stack_events", StackName=id)["StackEvents"]
        return str(found[0]["EventId"]) if found else ""

    def _check(self, id: str, wanted: str, last: str) -> None:
        """Raise Misconfigured with the reasons of the failure unless the stack is in the wanted state."""
        stack = self.find(id)
        status = stack.status if stack else DELETED
        if status == wanted:
            return
        # What fails because something else has failed before says only that.
        reasons = [
            _line(event)
            for event in self._events(id, last)
            if event["ResourceStatus"].endswith("_FAILED") and "cancelled" not in event.get("ResourceStatusReason", "")
        ]
        undone = "; CloudFormation has undone all changes" if status.endswith("_COMPLETE") else ""
        raise Misconfigured(
            f"the stack {self._name} ended in state {status}: {'; '.join(reasons[:3]) or 'no reason is given'}{undone}."
            " Correct the cause, and run the command again"
        )


def _line(event: Mapping[str, Any]) -> str:
    reason = f": {event['ResourceStatusReason']}" if event.get("ResourceStatusReason") else ""
    return f"{event['ResourceStatus']} {event['ResourceType']} {event['LogicalResourceId']}{reason}".rstrip(". ")


def _changed_by_another(error: CloudError) -> bool:
    """Return whether the stack was created, changed or deleted between the look at it and the call."""
    text = str(error)
    return error.code == "AlreadyExistsException" or (
        error.code == "ValidationError" and ("_IN_PROGRESS state" in text or "does not exist" in text)
    )

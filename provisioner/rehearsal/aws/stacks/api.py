"""Answer CloudFormation's calls about stacks."""

import threading
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from provisioner.rehearsal.aws.account import ID
from provisioner.rehearsal.aws.calls import Call, NotPlayed
from provisioner.rehearsal.aws.refused import Refused
from provisioner.rehearsal.aws.stacks import templates
from provisioner.rehearsal.aws.stacks.services import Services
from provisioner.rehearsal.aws.stacks.stack import Resource, Stack

#: Parameters that the double implements, by call.
_PARAMETERS = {
    "CreateStack": {"Capabilities", "StackName", "Tags", "TemplateBody"},
    "UpdateStack": {"Capabilities", "StackName", "Tags", "TemplateBody"},
    "DeleteStack": {"StackName"},
    "DescribeStacks": {"StackName"},
    "DescribeStackEvents": {"StackName"},
    "ListStackResources": {"StackName"},
    "DetectStackDrift": {"StackName"},
    "DescribeStackDriftDetectionStatus": {"StackDriftDetectionId"},
    "DescribeStackResourceDrifts": {"StackName", "StackResourceDriftStatusFilters"},
}


class CloudFormation:
    """The stacks of an account. Their operations go on in threads of their own until `close`."""

    def __init__(self, partition: str, now: Callable[[], float]) -> None:
        self._partition, self._now = partition, now
        self._stacks: list[Stack] = []
        #: The stack, and its differences, by the id of the look for them.
        self._drifts: dict[str, tuple[Stack, Mapping[str, list[str]]]] = {}
        self._lock = threading.RLock()
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="double-stack")
        #: Errors of the double itself, in a stack's thread.
        self.failures: list[Exception] = []

    def close(self) -> None:
        self._pool.shutdown(wait=True)

    def answer(self, call: Call, services: Services) -> dict[str, Any]:
        """Return the result of the call; `services` make the calls of its operation with its caller's rights."""
        if strange := set(call.parameters) - _PARAMETERS[call.action]:
            raise NotPlayed(f"{call.action} with {sorted(strange)}")
        answers: dict[str, Callable[[Mapping[str, Any], Services], dict[str, Any]]] = {
            "CreateStack": self._create,
            "UpdateStack": self._update,
            "DeleteStack": self._delete,
            "DescribeStacks": self._describe,
            "DescribeStackEvents": self._events,
            "ListStackResources": self._resources,
            "DetectStackDrift": self._detect,
            "DescribeStackDriftDetectionStatus": self._detected,
            "DescribeStackResourceDrifts": self._drifted,
        }
        return answers[call.action](call.parameters, services)

    def _find(self, name: str, *, deleted: bool = False) -> Stack:
        """Return the stack with this name or id; raises Refused. A deleted one is found by its id."""
        with self._lock:
            for stack in self._stacks[::-1]:
                over = stack.status == "DELETE_COMPLETE"
                if (name == stack.id and (deleted or not over)) or (name == stack.name and not over):
                    return stack
        raise Refused("ValidationError", f"Stack with id {name} does not exist")

    def _start(self, operation: Callable[[], None]) -> None:
        def run() -> None:
            try:
                operation()
            except Exception as error:  # noqa: BLE001 - raised when the double ends
                self.failures.append(error)

        self._pool.submit(run)

    def _create(self, said: Mapping[str, Any], services: Services) -> dict[str, Any]:
        template = templates.read(said["TemplateBody"], said.get("Capabilities", []))
        name = said["StackName"]
        with self._lock:
            if any(one.name == name and one.status != "DELETE_COMPLETE" for one in self._stacks):
                raise Refused("AlreadyExistsException", f"Stack [{name}] already exists")
            id = f"arn:{self._partition}:cloudformation:{services.region}:{ID}:stack/{name}/{uuid.uuid4()}"
            stack = Stack(name, id, template, _tags(said), self._now(), self._now)
            stack.note("CREATE_IN_PROGRESS", "User Initiated")
            self._stacks.append(stack)
        self._start(lambda: stack.create(services))
        return {"StackId": id}

    def _update(self, said: Mapping[str, Any], services: Services) -> dict[str, Any]:
        template = templates.read(said["TemplateBody"], said.get("Capabilities", []))
        with self._lock:
            stack = self._find(said["StackName"])
            if not stack.status.endswith("_COMPLETE") or stack.status == "ROLLBACK_COMPLETE":
                message = f"Stack:{stack.id} is in {stack.status} state and can not be updated."
                raise Refused("ValidationError", message)
            if template == stack.template and _tags(said) == stack.tags:
                raise Refused("ValidationError", "No updates are to be performed.")
            stack.note("UPDATE_IN_PROGRESS", "User Initiated")
        self._start(lambda: stack.update(services, template, _tags(said)))
        return {"StackId": stack.id}

    def _delete(self, said: Mapping[str, Any], services: Services) -> dict[str, Any]:
        try:
            with self._lock:
                stack = self._find(said["StackName"])
                if stack.status.endswith("_IN_PROGRESS"):
                    message = f"Stack [{stack.name}] cannot be deleted while in status {stack.status}"
                    raise Refused("ValidationError", message)
                stack.note("DELETE_IN_PROGRESS", "User Initiated")
        except Refused as error:
            if "does not exist" in error.message:
                # The deletion of an unknown stack succeeds (CloudFormation API, DeleteStack).
                return {}
            raise
        self._start(lambda: stack.delete(services))
        return {}

    def _describe(self, said: Mapping[str, Any], _: Services) -> dict[str, Any]:
        stack = self._find(said["StackName"], deleted=True)
        with stack.lock:
            return {
                "Stacks": [
                    {
                        "StackId": stack.id,
                        "StackName": stack.name,
                        "CreationTime": stack.created,
                        "StackStatus": stack.status,
                        "StackStatusReason": stack.reason,
                        "Outputs": [{"OutputKey": key, "OutputValue": value} for key, value in stack.outputs.items()],
                        "Tags": [{"Key": key, "Value": value} for key, value in stack.tags.items()],
                    }
                ]
            }

    def _events(self, said: Mapping[str, Any], _: Services) -> dict[str, Any]:
        """Return the events, the newest first."""
        stack = self._find(said["StackName"], deleted=True)
        with stack.lock:
            return {
                "StackEvents": [
                    {
                        "StackId": stack.id,
                        "EventId": one.id,
                        "StackName": stack.name,
                        "LogicalResourceId": one.logical,
                        "PhysicalResourceId": one.physical,
                        "ResourceType": one.type,
                        "Timestamp": one.at,
                        "ResourceStatus": one.status,
                        "ResourceStatusReason": one.reason or None,
                    }
                    for one in stack.events[::-1]
                ]
            }

    def _resources(self, said: Mapping[str, Any], _: Services) -> dict[str, Any]:
        stack = self._find(said["StackName"], deleted=True)
        return {
            "StackResourceSummaries": [
                {**_of(one), "LastUpdatedTimestamp": stack.created, "ResourceStatus": "CREATE_COMPLETE"}
                for one in list(stack.resources.values())
            ]
        }

    def _detect(self, said: Mapping[str, Any], services: Services) -> dict[str, Any]:
        stack, id = self._find(said["StackName"]), str(uuid.uuid4())
        self._drifts[id] = stack, stack.drift(services)
        return {"StackDriftDetectionId": id}

    def _detected(self, said: Mapping[str, Any], _: Services) -> dict[str, Any]:
        id = said["StackDriftDetectionId"]
        stack, drift = self._drifts[id]
        return {
            "StackId": stack.id,
            "StackDriftDetectionId": id,
            "StackDriftStatus": "DRIFTED" if drift else "IN_SYNC",
            "DetectionStatus": "DETECTION_COMPLETE",
            "DriftedStackResourceCount": len(drift),
            "Timestamp": self._now(),
        }

    def _drifted(self, said: Mapping[str, Any], _: Services) -> dict[str, Any]:
        stack = self._find(said["StackName"])
        drift = next((found for one, found in list(self._drifts.values())[::-1] if one is stack), {})
        shown = []
        for name, paths in drift.items():
            status = "MODIFIED" if paths else "DELETED"
            changes = [
                {"PropertyPath": path, "ExpectedValue": "", "ActualValue": "", "DifferenceType": "NOT_EQUAL"}
                for path in paths
            ]
            if status in said.get("StackResourceDriftStatusFilters", [status]):
                rest = {"StackId": stack.id, "Timestamp": self._now(), "StackResourceDriftStatus": status}
                shown.append({**_of(stack.resources[name]), **rest, "PropertyDifferences": changes})
        return {"StackResourceDrifts": shown}


def _of(one: Resource) -> dict[str, Any]:
    return {"LogicalResourceId": one.logical, "PhysicalResourceId": one.made.id, "ResourceType": one.type}


def _tags(said: Mapping[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in said.get("Tags", [])}

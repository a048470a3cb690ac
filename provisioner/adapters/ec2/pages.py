"""Read EC2's listings page by page, and limit them to the installation's resources."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from provisioner.adapters import aws
from provisioner.core.cloud.tags import INSTALLATION_TAG

#: Maximum number of results in one answer: EC2's limit for machines.
PAGE = 1000


def answers(calls: aws.Calls, operation: Callable[..., Any], **parameters: Any) -> Iterator[Any]:
    while True:
        answer = calls.repeat(operation, **parameters)
        yield answer
        if not answer.get("NextToken"):
            return
        parameters["NextToken"] = answer["NextToken"]


def pages(calls: aws.Calls, operation: Callable[..., Any], key: str, **parameters: Any) -> Iterator[Any]:
    """Yield the elements of the list `key` of each answer."""
    for answer in answers(calls, operation, **parameters):
        yield from answer[key]


def ours(installation: str) -> Mapping[str, Any]:
    """Return the filter for the resources of an installation."""
    return {"Name": f"tag:{INSTALLATION_TAG}", "Values": [installation]}

"""List the objects in the account that look like those of an installation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from provisioner.adapters.checks.looking import Looker
from provisioner.core.check.lines import Unseen
from provisioner.core.check.objects import Object

#: The kinds of objects that the control plane deletes.
KINDS = frozenset({"image", "instance", "launch-template", "placement-group", "snapshot"})
#: The names of our launch templates (`core.cloud.launches.Template.name`).
_NAME = re.compile("provision-[0-9a-f]{32}")


def objects(looker: Looker) -> Sequence[Object] | Unseen:
    """Return the objects that have a tag `provision:…`, and launch templates with our names and without such a tag."""
    return looker.look("the tags of EC2 resources", "ec2:DescribeTags", lambda: _objects(looker))


def _objects(looker: Looker) -> list[Object]:
    tags: dict[tuple[str, str], dict[str, str]] = {}
    wanted = [{"Name": "key", "Values": ["provision:*"]}]
    for tag in looker.pages("ec2", "describe_tags", "Tags", Filters=wanted):
        if tag["ResourceType"] in KINDS:
            tags.setdefault((tag["ResourceType"], tag["ResourceId"]), {})[tag["Key"]] = tag["Value"]
    for template in _templates(looker):
        if _NAME.fullmatch(template["LaunchTemplateName"]):
            tags.setdefault(("launch-template", template["LaunchTemplateId"]), {})
    return [Object(kind, id, found) for (kind, id), found in sorted(tags.items())]


def _templates(looker: Looker) -> list[Any]:
    wanted = [{"Name": "launch-template-name", "Values": ["provision-*"]}]
    return list(looker.pages("ec2", "describe_launch_templates", "LaunchTemplates", Filters=wanted))

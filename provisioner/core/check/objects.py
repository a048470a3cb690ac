"""Judge what the account has of this and other installations: the policies allow changes of exactly tagged objects."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from provisioner.core.check.lines import Group, Line, Unseen, named, ok, unseen, warning
from provisioner.core.cloud.tags import INSTALLATION_TAG


@dataclass(frozen=True)
class Object:
    """A machine, AMI, snapshot, launch template or placement group that looks like one of ours."""

    #: The resource type, as in ARNs: `instance`, `image` …
    kind: str
    id: str
    tags: Mapping[str, str]


def objects(found: Sequence[Object] | Unseen, installation: str) -> Iterator[Line]:
    if isinstance(found, Unseen):
        yield unseen(Group.OBJECTS, found)
        return
    own = [one for one in found if one.tags.get(INSTALLATION_TAG) == installation]
    untagged = [one for one in found if INSTALLATION_TAG not in one.tags]
    near, others = list[Object](), dict[str, list[Object]]()
    for one in found:
        value = one.tags.get(INSTALLATION_TAG, installation)
        if value == installation:
            continue
        if value.strip().lower() == installation:
            near.append(one)
        else:
            others.setdefault(value, []).append(one)
    yield ok(Group.OBJECTS, f"{_counted(own)} with the tag {INSTALLATION_TAG}={installation}")
    for kind, wrong_ones in (("no such tag", untagged), ("a misspelt one", near)):
        if wrong_ones:
            ids = [one.id for one in wrong_ones]
            text = f"{_counted(wrong_ones)} with {kind}, which the control plane may not delete: {named(ids)}"
            tag = f"Key={INSTALLATION_TAG},Value={installation}"
            yield warning(Group.OBJECTS, text, f"delete them, or as an administrator: {_tagging(ids)} --tags {tag}")
    for name, theirs in sorted(others.items()):
        text = f"{_counted(theirs)} of the installation {name!r}: {named(one.id for one in theirs)}"
        yield warning(Group.OBJECTS, text, "if no such installation exists any more, delete them as an administrator")


def _tagging(ids: Sequence[str]) -> str:
    return f"aws ec2 create-tags --resources {' '.join(ids[:20])}{' …' if len(ids) > 20 else ''}"


def _counted(found: Sequence[Object]) -> str:
    kinds = sorted({one.kind for one in found})
    counts = [f"{sum(one.kind == kind for one in found)} {kind}" for kind in kinds]
    return ", ".join(counts) or "nothing"

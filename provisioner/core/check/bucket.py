"""Judge the installation's bucket."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from provisioner.core.check.keys import FOR_OBJECTS, Key, key_lines
from provisioner.core.check.lines import Group, Line, Unseen, ok, unseen, warning, wrong

#: The folders of the installation in the bucket, each with the least age in days at which a rule may delete its
#: objects, or None for never. The mailboxes of machines are needed while the machines live; the control plane deletes
#: only those of machines that it knows.
FOLDERS: Mapping[str, int | None] = {"agent/": None, "inbox/": 30, "machines/": 30, "runs/": None}
#: The four parts of "Block Public Access".
BLOCKED = "BlockPublicAcls=true,IgnorePublicAcls=true,BlockPublicPolicy=true,RestrictPublicBuckets=true"


@dataclass(frozen=True)
class Expiry:
    """An enabled lifecycle rule that deletes objects whose keys begin with `prefix`."""

    rule: str
    prefix: str
    days: int


@dataclass(frozen=True)
class Bucket:
    """The facts about a bucket. Each one that could not be read is `Unseen`."""

    #: The bucket's region; "" if there is no such bucket.
    region: str | Unseen
    #: Whether a second conditional write of a key is refused.
    conditional: bool | Unseen
    #: Whether all public access is blocked.
    private: bool | Unseen
    #: The customer's own key that encrypts objects, or None.
    key: Key | Unseen | None
    expiries: Sequence[Expiry] | Unseen


def bucket(found: Bucket, where: str, region: str) -> Iterator[Line]:
    """Yield the lines for the bucket `where`, which is `name` or `name/prefix`."""
    name, _, prefix = where.strip("/").partition("/")
    if found.region == "":
        yield wrong(Group.BUCKET, f"the bucket {name} does not exist", "`provision setup` makes it")
        return
    if isinstance(found.region, Unseen):
        yield unseen(Group.BUCKET, found.region)
    elif found.region != region:
        text = f"the bucket {name} is in {found.region}, but the settings have the region {region}"
        yield wrong(Group.BUCKET, text, "name a bucket of the same region: data between regions is slow and billed")
    else:
        yield ok(Group.BUCKET, f"{name} is in {region}")
    if isinstance(found.conditional, Unseen):
        yield unseen(Group.BUCKET, found.conditional)
    elif found.conditional:
        yield ok(Group.BUCKET, "objects can be written, and a conditional write is refused if the object exists")
    else:
        text = f"the bucket {name} ignores If-None-Match, so a command could run twice"
        yield wrong(Group.BUCKET, text, "use a bucket of Amazon S3, or of a server that knows conditional writes")
    yield from _privacy(found.private, name)
    if isinstance(found.key, Unseen):
        yield unseen(Group.BUCKET, found.key)
    elif found.key is None:
        yield ok(Group.BUCKET, "objects are encrypted with a key of AWS")
    else:
        yield from key_lines(Group.BUCKET, found.key, f"objects of {name}", FOR_OBJECTS)
    if isinstance(found.expiries, Unseen):
        yield unseen(Group.BUCKET, found.expiries)
    else:
        yield from _expiries(found.expiries, f"{prefix}/" if prefix else "")


def _privacy(private: bool | Unseen, name: str) -> Iterator[Line]:
    if isinstance(private, Unseen):
        yield unseen(Group.BUCKET, private)
    elif private:
        yield ok(Group.BUCKET, "public access is blocked")
    else:
        fix = f"aws s3api put-public-access-block --bucket {name} --public-access-block-configuration {BLOCKED}"
        yield warning(Group.BUCKET, f"public access to the bucket {name} is not blocked", fix)


def _expiries(rules: Sequence[Expiry], prefix: str) -> Iterator[Line]:
    for rule in rules:
        ours = [
            folder
            for folder, least in FOLDERS.items()
            if _overlap(rule.prefix, prefix + folder) and (least is None or rule.days < least)
        ]
        if ours:
            text = f"the lifecycle rule {rule.rule} deletes {', '.join(ours)} after {rule.days} days"
            fix = "limit it to machines/ and inbox/ after at least 30 days, unless logs may be lost then"
            yield warning(Group.BUCKET, text, fix)


def _overlap(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)

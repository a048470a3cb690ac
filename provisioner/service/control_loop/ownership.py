"""Record and check the owner of a bucket: one store, until another store takes the bucket over."""

import json
from collections.abc import Mapping

from provisioner.core.errors import WrongStore
from provisioner.service.installation import Installation

KEY = "installation.json"


def claim(installation: Installation) -> None:
    """Record this store as the owner if the bucket has none. Raises WrongStore if another store owns the bucket."""
    if not installation.bucket.put(KEY, _card(installation), if_absent=True):
        compare(installation)


def compare(installation: Installation) -> None:
    """Raise WrongStore if another store owns the bucket."""
    if owner := _other(installation):
        raise WrongStore(
            f"the bucket belongs to installation {owner.get('installation')!r}, store {_short(owner)}, "
            f"and this store is {installation.store.id()[:12]}: nothing was done. "
            "If the other store is lost for good, run `provision takeover`"
        )


def other_store(installation: Installation) -> str:
    """Return the short id of another store that owns the bucket, or ""."""
    owner = _other(installation)
    return _short(owner) if owner else ""


def _other(installation: Installation) -> Mapping[str, str] | None:
    """Return the record of the bucket's owner if the owner is another store, else None."""
    found = installation.bucket.get(KEY)
    return json.loads(found or b"{}") if found is not None and found != _card(installation) else None


def _short(owner: Mapping[str, str]) -> str:
    return owner.get("store", "")[:12] or "unknown"


def take(installation: Installation) -> None:
    """Record this store as the bucket's owner. The previous owner stops acting when it next reads the record."""
    installation.bucket.put(KEY, _card(installation))


def _card(installation: Installation) -> bytes:
    ids = {"installation": installation.policy.installation, "store": installation.store.id()}
    return json.dumps(ids, sort_keys=True).encode()

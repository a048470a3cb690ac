"""The owner of a bucket: one store, until another store takes the bucket over."""

import json

from provisioner.core.errors import WrongStore
from provisioner.service.installation import Installation

KEY = "installation.json"


def claim(installation: Installation) -> None:
    """Make an unowned bucket this store's. Raises WrongStore if it belongs to another store."""
    if not installation.bucket.put(KEY, _card(installation), if_absent=True):
        compare(installation)


def compare(installation: Installation) -> None:
    """Raise WrongStore if the bucket belongs to another store."""
    mine, found = _card(installation), installation.bucket.get(KEY)
    if found is not None and found != mine:
        theirs = json.loads(found or b"{}")
        raise WrongStore(
            f"the bucket belongs to installation {theirs.get('installation')!r}, store {theirs.get('store', '')[:12]}, "
            f"and this store is {installation.store.id()[:12]}: nothing was done. "
            "If the other store is lost for good, run `provision takeover`"
        )


def take(installation: Installation) -> None:
    """Make the bucket this store's. The previous owner stops acting at its next comparison."""
    installation.bucket.put(KEY, _card(installation))


def _card(installation: Installation) -> bytes:
    ids = {"installation": installation.policy.installation, "store": installation.store.id()}
    return json.dumps(ids, sort_keys=True).encode()

"""Whose installation the bucket is: one store's, until a takeover."""

import json

from provisioner.core.errors import WrongStore
from provisioner.service.installation import Installation

KEY = "installation.json"


def claim(installation: Installation) -> None:
    """Write our ids where none are, and compare them where some are; raises WrongStore."""
    mine = _card(installation)
    if installation.bucket.put(KEY, mine, if_absent=True):
        return
    found = installation.bucket.get(KEY)
    if found != mine:
        theirs = json.loads(found or b"{}")
        raise WrongStore(
            f"the bucket belongs to installation {theirs.get('installation')!r}, store {theirs.get('store', '')[:12]}, "
            f"and this store is {installation.store.id()[:12]}: nothing was done. "
            "If the other store is lost for good, run `provision takeover`"
        )


def take(installation: Installation) -> None:
    """Make the bucket ours; whoever had it refuses to act from its next lease on."""
    installation.bucket.put(KEY, _card(installation))


def _card(installation: Installation) -> bytes:
    ids = {"installation": installation.policy.installation, "store": installation.store.id()}
    return json.dumps(ids, sort_keys=True).encode()

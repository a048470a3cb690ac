"""Read the records of ended commands from the machines' inboxes, and put them into the archive.

A machine may put any number of objects of any size. Each pass reads a bounded number of bytes, in turns of machines,
so that a machine with many records delays only its own.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import zip_longest

from provisioner.core.logs.archive import kept_chunk_key
from provisioner.core.protocol.words import RECORDS
from provisioner.core.run.records import Node
from provisioner.ports.bucket import Entry
from provisioner.service.control_loop.one_pass import Pass
from provisioner.service.installation import Installation

#: Maximum number of bytes of records of all machines that a pass reads, at least those of one object: decoding them
#: takes half a second.
PASS_MOST = 2 << 20

#: Offsets in a node's stream `records`, with what begins there, in order.
Entries = Sequence[tuple[int, Entry]]
Pieces = Sequence[tuple[int, bytes]]


class Reading:
    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        #: The mailbox that was read last; the next pass begins with the one after it.
        self._last = ""

    def read(self, current: Pass, waiting: Mapping[str, tuple[Node, Entries]]) -> Mapping[str, Pieces]:
        """Return new pieces of the streams `records` by the node's id, after they were put into the archive.

        `waiting` are the objects to read, by mailbox; those of one mailbox follow each other without a gap.
        """
        chosen = self._chosen({box: entries for box, (_, entries) in waiting.items()})
        return dict(current.each(self._fetch, [(waiting[box][0], entries) for box, entries in chosen.items()]))

    def _chosen(self, waiting: Mapping[str, Entries]) -> Mapping[str, Entries]:
        boxes = sorted(waiting, key=lambda box: (box <= self._last, box))
        chosen, left = defaultdict[str, list[tuple[int, Entry]]](list), PASS_MOST
        for turn in zip_longest(*(waiting[box] for box in boxes)):
            for box, found in zip(boxes, turn, strict=True):
                if found is None:
                    continue
                left -= found[1].size
                if left < 0:
                    return chosen
                chosen[box].append(found)
                self._last = box
        return chosen

    def _fetch(self, item: tuple[Node, Entries]) -> tuple[str, Pieces]:
        node, entries = item
        bucket, found = self._installation.bucket, list[tuple[int, bytes]]()
        for offset, entry in entries:
            data = bucket.get(entry.key, length=entry.size + 1)
            # If the machine has replaced the object since the listing, a later pass reads it.
            if data is None or len(data) != entry.size:
                break
            # Put the bytes and not a copy of the object, which the machine may replace at any time.
            bucket.put(kept_chunk_key(node.run, node.attempt, node.rank, RECORDS, offset), data)
            found.append((offset, data))
        return node.id, found

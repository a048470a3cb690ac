"""The machines' inboxes: how much of each is listed, read and deleted in one pass.

A machine may put any number of objects of any size into its own inbox, under any name. Each pass lists a
bounded number of them, the same for every machine; reads none that is too large for a report; and goes on
where the last pass stopped. So a machine that floods its inbox delays the reading of its own reports only.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from provisioner.core.errors import Invalid
from provisioner.core.machine_messages import REPORT_MOST, decode_report, period, printable
from provisioner.core.record import Node
from provisioner.core.work import Report
from provisioner.ports.bucket import Entry
from provisioner.service.installation import Installation

ALL = "inbox/"
#: Objects of one machine in a pass. A machine puts one in ten seconds; those of a weekend take a minute of passes.
EACH_MOST = 500
#: Objects of all machines in a pass, and machines in a pass whose objects are too many. 10,000 machines put 1,000
#: in a second.
MOST, CROWDED_MOST = 20_000, 32
#: Reports of one machine that are read in a pass: the newest one, and older ones where that cannot be decoded.
READS = 3
#: Keys of one delete call, as S3 takes them.
BATCH = 1000
_NAME = re.compile(r"[0-9]{10,16}")


@dataclass(frozen=True)
class Listed:
    """What a pass listed, by mailbox; `whole` unless some mailboxes were left to the next pass."""

    entries: dict[str, list[Entry]]
    whole: bool = True

    def covers(self, box: str) -> bool:
        return self.whole or box in self.entries


@dataclass(frozen=True)
class Heard:
    """The newest report of a machine that is news, how many objects were no report, and why one was not."""

    report: Report | None = None
    unreadable: int = 0
    why: str = ""


class Inbox:
    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        #: Behind which key the next pass begins; empty at the first one.
        self._after = ""

    def listed(self) -> Listed:
        """List the inboxes, each up to EACH_MOST objects, from where the last pass stopped."""
        found: dict[str, list[Entry]] = {}
        whole, after, crowded, count = not self._after, self._after, 0, 0
        self._after = ""
        while True:
            full = ""
            for entry in self._installation.bucket.list(ALL, after=after):
                box = entry.key.split("/")[1]
                if box not in found and (count >= MOST or crowded >= CROWDED_MOST):
                    # Behind the last mailbox of this pass: this one is the first of the next.
                    self._after = _behind(next(reversed(found)))
                    return Listed(found, whole=False)
                entries = found.setdefault(box, [])
                if len(entries) >= EACH_MOST:
                    full, crowded = box, crowded + 1
                    break
                entries.append(entry)
                count += 1
            if not full:
                return Listed(found, whole)
            after = _behind(full)

    def read(self, node: Node, entries: Sequence[Entry]) -> Heard:
        """Read the newest of these objects that is a report and that the node does not have yet."""
        known = node.report.sequence if node.report else -1
        numbered, unreadable, why = list[tuple[int, str]](), 0, ""
        for entry in entries:
            name = entry.key.split("/", 2)[2]
            if not _NAME.fullmatch(name):
                unreadable, why = unreadable + 1, "its name is no report's"
            elif entry.size > REPORT_MOST:
                unreadable, why = unreadable + 1, f"it has more than {REPORT_MOST} bytes"
            elif int(name) > known:
                numbered.append((int(name), entry.key))
        within = period(node, self._installation.now())
        for number, key in sorted(numbered, reverse=True)[:READS]:
            # Between listing and reading a machine may put a larger one.
            data = self._installation.bucket.get(key, length=REPORT_MOST + 1)
            try:
                if data is not None:
                    return Heard(decode_report(data, number, within), unreadable, why)
            except Invalid as error:
                unreadable, why = unreadable + 1, printable(str(error), 200)
        return Heard(None, unreadable, why)

    def delete(self, entries: Collection[Entry]) -> None:
        """Delete these; raises the first error after all calls were made."""
        installation = self._installation
        keys = [entry.key for entry in entries]
        batches = [keys[at : at + BATCH] for at in range(0, len(keys), BATCH)]
        for failure in installation.pool.map(installation.bucket.delete, batches):
            if isinstance(failure, Exception):
                raise failure


def _behind(box: str) -> str:
    """Where a listing goes on behind all keys of a mailbox: "0" is the character after the slash."""
    return f"{ALL}{box}0"

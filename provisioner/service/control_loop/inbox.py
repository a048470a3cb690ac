"""List, read and delete the objects in the machines' inboxes, a bounded number in each pass.

A machine may put any number of objects of any size into its own inbox, under any name. Each pass lists a
bounded number of objects, with the same limit for every machine, and continues where the last pass stopped. A pass
does not read objects that are too large for a report. So a machine that floods its inbox delays only its own reports.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from provisioner.core.errors import Invalid
from provisioner.core.protocol.messages import Report
from provisioner.core.run.machines.messages import REPORT_MOST, decode_report, period, printable
from provisioner.core.run.records import Node
from provisioner.ports.bucket import Entry
from provisioner.service.installation import Installation

ALL = "inbox/"
#: Maximum number of objects of one machine that a pass lists. A machine writes one object every 10 s, so passes take
#: one minute to list the backlog of a weekend without a control plane.
EACH_MOST = 500
#: Maximum number of objects of all machines that a pass lists, and maximum number of machines with more than EACH_MOST
#: objects. 10,000 machines write 1,000 objects a second.
MOST, CROWDED_MOST = 20_000, 32
#: Maximum number of reports of one machine that a pass reads: the newest report, and older ones if newer ones cannot be
#: decoded.
READS = 3
#: Maximum number of keys in one DeleteObjects call of S3.
BATCH = 1000
_NAME = re.compile(r"[0-9]{10,16}")


@dataclass(frozen=True)
class Listed:
    """The objects that a pass listed, by mailbox; `whole` is False if the pass did not list all mailboxes."""

    entries: dict[str, list[Entry]]
    whole: bool = True

    def covers(self, box: str) -> bool:
        return self.whole or box in self.entries

    def has_all(self, box: str) -> bool:
        """Return whether all objects of the mailbox's inbox were listed."""
        return self.covers(box) and len(self.entries.get(box, ())) < EACH_MOST


@dataclass(frozen=True)
class Heard:
    """The newest report that the node's record lacks; the number of unreadable objects; why the last is unreadable."""

    report: Report | None = None
    unreadable: int = 0
    why: str = ""


@dataclass(frozen=True)
class Received:
    """What a pass found in the inboxes besides the reports."""

    #: Ids of the runs whose machines' inboxes could not be read, or will be read only by a later pass. The silence of
    #: these machines proves nothing.
    unheard: frozenset[str]
    #: By mailbox of a list's machine: the objects with the records of ended commands, by offset.
    ends: Mapping[str, Mapping[int, Entry]]
    #: The mailboxes of lists' machines whose inbox was listed to its end.
    whole: frozenset[str]


class Inbox:
    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        #: The next pass lists the keys after this key; if empty, all keys.
        self._after = ""

    def listed(self) -> Listed:
        """List up to EACH_MOST objects of each inbox, and begin where the last pass stopped."""
        found: dict[str, list[Entry]] = {}
        whole, after, crowded, count = not self._after, self._after, 0, 0
        self._after = ""
        while True:
            full = ""
            for entry in self._installation.bucket.list(ALL, after=after):
                box = entry.key.split("/")[1]
                if box not in found and (count >= MOST or crowded >= CROWDED_MOST):
                    # The next pass begins with this mailbox.
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
        """Return the newest report among these objects, if the node's record lacks it, and count unreadable ones."""
        known = node.report.sequence if node.report else -1
        numbered, unreadable, why = list[tuple[int, str]](), 0, ""
        for entry in entries:
            name = entry.key.split("/", 2)[2]
            if not _NAME.fullmatch(name):
                unreadable, why = unreadable + 1, "its name is not a report number"
            elif entry.size > REPORT_MOST:
                unreadable, why = unreadable + 1, f"it has more than {REPORT_MOST} bytes"
            elif int(name) > known:
                numbered.append((int(name), entry.key))
        within = period(node, self._installation.now())
        for number, key in sorted(numbered, reverse=True)[:READS]:
            # The machine may have replaced the object by a larger one since the listing.
            data = self._installation.bucket.get(key, length=REPORT_MOST + 1)
            try:
                report = None if data is None else decode_report(data, number, within)
                # A late report of an earlier attempt on this machine says nothing about the present one.
                if report and report.attempt in (0, node.attempt):
                    return Heard(report, unreadable, why)
            except Invalid as error:
                unreadable, why = unreadable + 1, printable(str(error), 200)
        return Heard(None, unreadable, why)

    def delete(self, entries: Collection[Entry]) -> None:
        """Delete the objects; raise the first error after all calls were made."""
        installation = self._installation
        keys = [entry.key for entry in entries]
        batches = [keys[at : at + BATCH] for at in range(0, len(keys), BATCH)]
        for failure in installation.pool.map(installation.bucket.delete, batches):
            if isinstance(failure, Exception):
                raise failure


def _behind(box: str) -> str:
    """Return a key that sorts after all keys of a mailbox: "0" is the character after "/"."""
    return f"{ALL}{box}0"

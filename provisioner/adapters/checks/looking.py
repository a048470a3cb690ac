"""Read facts of an account, each within a time limit; a fact that cannot be read is `Unseen`."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from provisioner.adapters import aws
from provisioner.adapters.ec2.codes import translate
from provisioner.adapters.ec2.explaining import Explaining
from provisioner.core.check.lines import Unseen
from provisioner.core.errors import CloudError, ProvisionError, Transient

T = TypeVar("T")

#: Seconds for one fact, over all its calls and their retries.
LOOK = 20.0
#: Seconds between two bytes of an answer.
READ_TIMEOUT = 8.0


class Looker:
    """Makes the calls of all checks. Calls that fail for a moment are repeated once."""

    def __init__(self, session: aws.Session, *, look: float = LOOK) -> None:
        self.session = session
        self.calls = aws.Calls(translate, attempts=2, session=session)
        self.calls.explain = Explaining(session, aws.Calls(translate)).denial
        self._look = look

    def client(self, service: str) -> Any:
        return self.session.client(service, READ_TIMEOUT)

    def ask(self, service: str, operation: str, **parameters: Any) -> Any:
        """Make one call; raises CloudError."""
        return self.calls.repeat(getattr(self.client(service), operation), **parameters)

    def pages(self, service: str, operation: str, key: str, **parameters: Any) -> Iterator[Any]:
        """Yield the items of all pages; raises CloudError."""
        while True:
            answer = self.ask(service, operation, **parameters)
            yield from answer[key]
            if not answer.get("NextToken"):
                return
            parameters["NextToken"] = answer["NextToken"]

    def look(self, what: str, right: str, read: Callable[[], T], *, needed: bool = False) -> T | Unseen:
        """Return what `read` returns, or `Unseen` if it raises ProvisionError or takes too long.

        `right` is the right that the call needs, and `needed` says whether runs need it, too.
        """
        try:
            with aws.reading(what):
                return within(self._look, read)
        except ProvisionError as error:
            denied = isinstance(error, CloudError) and error.code in aws.DENIED
            return Unseen(what, str(error), right if denied else "", needed)


def within(seconds: float, read: Callable[[], T]) -> T:
    """Return what `read` returns; raises Transient if that takes longer.

    The call then goes on in its thread, which ends with the process: name lookups cannot be interrupted.
    """
    answers: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put((read(), None))
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            answers.put((None, error))

    threading.Thread(target=run, name="check", daemon=True).start()
    try:
        value, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise Transient(f"no answer within {seconds:.0f} s: check the network between this computer and AWS") from None
    if error is not None:
        raise error
    return value  # type: ignore[no-any-return]

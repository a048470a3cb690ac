"""A bucket in memory that keeps the port's contract; plain fields make its calls fail."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from provisioner.core.errors import NotFound, Transient
from provisioner.ports.bucket import Entry


@dataclass
class MemoryBucket:
    now: Callable[[], float] = lambda: 0.0
    #: Errors for the next calls of any method: each call raises the first one that is left, and does nothing else.
    fail_next: list[Exception] = field(default_factory=list)
    #: Names of methods whose next call does its work and then raises; each entry is for one call.
    lose_answer_of: list[str] = field(default_factory=list)
    objects: dict[str, tuple[bytes, float]] = field(default_factory=dict)

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        self._enter()
        if if_absent and key in self.objects:
            return False
        self.objects[key] = (data, self.now())
        self._leave("put")
        return True

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes | None:
        self._enter()
        self._leave("get")
        if key not in self.objects:
            return None
        return self.objects[key][0][start : None if length is None else start + length]

    def list(self, prefix: str, *, after: str = "") -> Iterator[Entry]:
        self._enter()
        self._leave("list")
        for key in sorted(key for key in self.objects if key.startswith(prefix) and key > after):
            data, modified = self.objects[key]
            yield Entry(key, len(data), modified)

    def copy(self, source: str, target: str) -> None:
        self._enter()
        if source not in self.objects:
            raise NotFound(f"no object {source}")
        self.objects[target] = (self.objects[source][0], self.now())
        self._leave("copy")

    def delete(self, keys: Collection[str]) -> None:
        self._enter()
        for key in keys:
            self.objects.pop(key, None)
        self._leave("delete")

    def _enter(self) -> None:
        if self.fail_next:
            raise self.fail_next.pop(0)

    def _leave(self, method: str) -> None:
        if method in self.lose_answer_of:
            self.lose_answer_of.remove(method)
            # Transient, because the bucket port has no NoAnswer: every method may be repeated.
            raise Transient("the answer was lost", code="ConnectionClosedError")

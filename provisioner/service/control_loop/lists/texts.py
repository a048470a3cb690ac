"""Read the texts of a list's commands: from the run's recipe, or from the parts of its upload."""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby

from provisioner.core.commands.uploads import PART_BYTES, Upload, part_key
from provisioner.core.errors import Failed
from provisioner.core.protocol.batches import Range
from provisioner.core.recipe.fields import LONGEST_ARGUMENT
from provisioner.core.run.records import Run
from provisioner.core.run.work_order import loaded
from provisioner.ports.bucket import Bucket
from provisioner.ports.store import Store

#: Number of records of uploads, and of parts, that are kept in memory: a part has about 4 MiB at most.
UPLOADS_KEPT, PARTS_KEPT = 16, 6
#: Maximum number of bytes of a part.
_PART_MOST = PART_BYTES + LONGEST_ARGUMENT + 1


class Texts:
    """The texts of the commands of all lists. Several threads may use it."""

    def __init__(self, store: Store, bucket: Bucket) -> None:
        self._store, self._bucket = store, bucket
        # Uploads never change. `lru_cache` is thread-safe, and it caches no exception.
        self._upload = lru_cache(UPLOADS_KEPT)(self._found)
        self._part = lru_cache(PARTS_KEPT)(self._read)

    def texts_of(self, run: Run, ranges: Iterable[Range]) -> bytes:
        """Return the texts of these commands in the form that batch objects have; the same bytes at each call."""
        pieces = (piece for first, count, _ in ranges for piece in self._pieces(run, first, count))
        return b"".join(text + b"\0" for piece in pieces for text in piece)

    def texts(self, run: Run, indices: Iterable[int]) -> Iterator[str]:
        """Yield the texts of these commands, in the order of the indices. Reads a part when its first text is due."""
        if not run.upload:
            commands = loaded(run.recipe).spec.commands
            yield from (commands[index] for index in indices)
            return
        upload = self._upload(run.upload)
        places = (next(upload.spread(index, 1)) for index in indices)
        for number, several in groupby(places, lambda place: place[0]):
            part = self._part(upload, number)
            yield from (part[place].decode() for _, place, _ in several)

    def _pieces(self, run: Run, first: int, count: int) -> Iterator[Sequence[bytes]]:
        if run.upload:
            upload = self._upload(run.upload)
            yield from (self._part(upload, number)[begin:end] for number, begin, end in upload.spread(first, count))
        else:
            yield [command.encode() for command in loaded(run.recipe).spec.commands[first : first + count]]

    def _found(self, id: str) -> Upload:
        if (found := self._store.upload(id)) is None:
            raise Failed(f"the store has no upload {id[:12]}, although a run uses it: restore a newer backup")
        return found

    def _read(self, upload: Upload, number: int) -> Sequence[bytes]:
        """Return the texts in a part. Raises Failed if it is missing or has another number of texts."""
        data = self._bucket.get(key := part_key(upload.id, number), length=_PART_MOST + 1)
        texts = (data or b"").split(b"\0")[:-1]
        if len(texts) != len(upload.indices(number)):
            what = "is missing in" if data is None else "was changed in"
            raise Failed(f"the part {key} of an uploaded list {what} the bucket: its commands cannot be read")
        return texts

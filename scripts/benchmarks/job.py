"""The program of a measured job: compute and print. It imports only the standard library, so that it starts fast.

    job.py FILE KIND AMOUNT [SECONDS]

This command writes the seconds that it took to FILE.
"""

import hashlib
import os
import random
import sys
import time
from pathlib import Path

MB = 1_000_000
BLOCK = bytes(1000)

WORDS = (
    "the quick brown fox epoch=12/100 loss 0.3345 /usr/lib/python3/dist-packages/torch/nn/modules INFO lr grad_norm "
    "validation_accuracy 2026-01-01T00:00:00Z step password admin user=me WARNING tensor(0.1234, device='cuda:0')"
)


def text(size: int) -> bytes:
    """Return `size` bytes of lines like those of a training job."""
    chance, words = random.Random(1), WORDS.split()
    lines, length = [], 0
    while length < size:
        chosen = chance.choices(words, k=chance.randint(4, 16))
        lines.append(f"{' '.join(chosen)} {chance.random():.6f}\n".encode())
        length += len(lines[-1])
    return b"".join(lines)[:size]


def work(told: Path, kind: str, amount: int, seconds: int = 0) -> None:
    """Compute and print for about `seconds`: the work is fixed, not the time. Write the seconds that it took to `told`.

    `amount` is the number of MB to print: in each burst for kind `bursts` (two bursts a second), in total for kind
    `small`, and in each second for other kinds.
    """
    lines = [line + b"\n" for line in text(MB).splitlines()]
    out, began = sys.stdout.buffer, time.perf_counter()
    if kind == "small":
        for _ in range(amount * MB // 100):
            os.write(1, b"9" * 99 + b"\n")
    elif kind == "bursts":
        for _ in range(seconds * 2):
            compute(500_000)
            out.write(b"".join(lines * amount))
    else:
        for _ in range(seconds * amount):
            for line in lines:
                compute(len(line) // amount)
                out.write(line)
                if kind == "lines":
                    out.flush()
    out.flush()
    told.write_text(str(time.perf_counter() - began))


def compute(microseconds: int) -> None:
    """Compute for about `microseconds`."""
    for _ in range(microseconds):
        hashlib.sha256(BLOCK).digest()


if __name__ == "__main__":
    work(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:]))

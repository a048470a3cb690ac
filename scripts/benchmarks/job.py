"""What a measured job does: prints beside some work. Alone, so that it starts at once.

    job.py FILE KIND AMOUNT [SECONDS]

puts the seconds that it took into the file.
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
    """Lines as a training prints them."""
    chance, words = random.Random(1), WORDS.split()
    lines, length = [], 0
    while length < size:
        chosen = chance.choices(words, k=chance.randint(4, 16))
        lines.append(f"{' '.join(chosen)} {chance.random():.6f}\n".encode())
        length += len(lines[-1])
    return b"".join(lines)[:size]


def work(told: Path, kind: str, amount: int, seconds: int = 0) -> None:
    """Compute and print, so many MB a second or a burst, for about so many seconds: the work is fixed, not the time."""
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
    """About so long."""
    for _ in range(microseconds):
        hashlib.sha256(BLOCK).digest()


if __name__ == "__main__":
    work(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:]))

"""Draw rehearsals as SVG: the commands that a user types, and what they print."""

import io
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

HERE = Path(__file__).parent
PICTURES = HERE.parents[1] / "provisioner" / "docs" / "pictures"
#: Columns of a picture, and most lines of one command's output.
WIDTH, LINES = 88, 40
#: The commands of the picture. Of the receipt, only the sum is shown.
COMMANDS = (("start", "train", "--follow"), ("receipt", "train"))
#: The only line of a receipt that is shown.
MONEY = re.compile(r"^total: [0-9]")


def main() -> None:
    program = [sys.executable, "-m", "provisioner.faces.cli.main"]
    with tempfile.TemporaryDirectory() as name:
        environment = {**os.environ, "TMPDIR": name, "COLUMNS": str(WIDTH)}
        double = subprocess.Popen(
            [*program, "rehearse", "--serve", "--json", "--scenario", str(HERE / "scenario.yaml")],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert double.stdout is not None
        try:
            environment |= _environment(double.stdout)
            subprocess.run([*program, "apply", str(HERE / "recipe.yaml")], env=environment, check=True)
            _draw("run", _shown(program, environment, COMMANDS))
        finally:
            double.terminate()
            double.wait()
    _draw("map", _demo(), 108)


def _environment(printed: Iterator[bytes]) -> dict[str, str]:
    """Return the variables of `rehearse --serve --json`, which prints one JSON object and stays."""
    text = b""
    for line in printed:
        text += line
        if line == b"}\n":
            break
    found: dict[str, str] = json.loads(text)["environment"]
    return found


def _shown(program: Sequence[str], environment: dict[str, str], commands: Sequence[Sequence[str]]) -> Iterator[str]:
    for words in commands:
        yield f"\x1b[1;32m$\x1b[0m \x1b[1mprovision {' '.join(words)}\x1b[0m"
        done = subprocess.run(
            [*program, "--color", "always", *words],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
        )
        lines = done.stdout.splitlines()
        yield from [line for line in lines if words[0] != "receipt" or MONEY.match(line)][:LINES]
        yield ""


def _demo() -> Iterator[str]:
    """Yield what `scripts/demo map` prints; of the receipt, only the sum of the money."""
    yield "\x1b[1;32m$\x1b[0m \x1b[1mscripts/demo map\x1b[0m"
    done = subprocess.run(
        [sys.executable, "-m", "scripts.demos.map"], cwd=HERE.parents[1], stdout=subprocess.PIPE, text=True, check=True
    )
    lines = done.stdout.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("receipt"))
    yield from lines[:first]
    yield from (line for line in lines[first:] if MONEY.match(line) or "$ for machines" in line)


def _draw(name: str, lines: Iterator[str], width: int = WIDTH) -> None:
    console = Console(width=width, record=True, file=io.StringIO(), force_terminal=True)
    for line in lines:
        text = Text.from_ansi(line)
        text.truncate(width, overflow="ellipsis")
        console.print(text)
    svg = console.export_svg(title="provision")
    # The fonts of rich's template are on another server. A viewer has a monospace font of its own.
    svg = re.sub(r"(?s)@font-face \{.*?\}\n?", "", svg).replace("Fira Code, monospace", "monospace")
    PICTURES.mkdir(parents=True, exist_ok=True)
    (PICTURES / f"{name}.svg").write_text(re.sub(r"[ \t]+\n", "\n", svg))


if __name__ == "__main__":
    main()

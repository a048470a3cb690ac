"""Why a machine powered itself off, from its console."""

import pytest

from provisioner.core.run.machines.console import MOST, verdict_of


@pytest.mark.parametrize(
    ("console", "words"),
    [
        ("", ""),
        ("Booting\nLogin:", ""),
        ("provision: powering off: no route\n[  OK  ] Stopped x\n[ 31.1] reboot: Power down", "no route"),
        ("[   12.3] cloud-init[1234]: provision: powering off: no route\r\n", "no route"),
        ("provision: powering off: first\nprovision: powering off: second\n", "second"),
        ("provision: the fuse has expired", "the fuse has expired"),
        ("x provision: lost at boot: Docker did not answer", "lost at boot: Docker did not answer"),
    ],
)
def test_last_verdict_counts_wherever_it_stands(console: str, words: str) -> None:
    """The console may print a time or a service's name before the line, and the shutdown after it."""
    assert verdict_of(console) == words


def test_long_or_unprintable_verdict_is_made_printable() -> None:
    """The machine's root writes the console."""
    found = verdict_of("provision: powering off: \x1b[2J" + "x" * 9999)
    assert found.isprintable()
    assert len(found) == MOST

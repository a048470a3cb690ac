"""Scenario files: their fields and their errors."""

import json
from pathlib import Path
from typing import Any

import pytest

from provisioner.core.errors import Invalid
from provisioner.rehearsal.aws.faults import Effect, When
from provisioner.rehearsal.ec2.conditions import (
    Absence,
    Capacity,
    FleetLimit,
    Interruption,
    Rebalance,
    Unheeded,
    Where,
    ZoneTrouble,
)
from provisioner.rehearsal.machines.script import CommandScript
from provisioner.rehearsal.scenario import Kind, Scenario, load, parse

EXAMPLES = sorted((Path(__file__).parents[2] / "config" / "scenarios").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_a_scenario(path: Path) -> None:
    """The files in config/scenarios are valid."""
    load(path)


def test_empty_scenario_is_the_default() -> None:
    """An empty file and no file give the same cloud."""
    assert parse(None) == Scenario()


def test_a_scenario_in_full() -> None:
    """Durations, patterns and `unlimited` or `always` become plain values."""
    made = parse(
        {
            "machine": "qemu",
            "capacity": [{"market": "spot", "type": "g5.*", "at": "10m", "machines": "unlimited"}],
            "interruptions": [{"at": "1.5h", "notice": "500ms", "times": "always"}],
            "rebalances": [{"type": "g5.*", "at": "10s"}],
            "faults": [{"effect": "reset", "when": "after", "action": "CreateFleet", "times": 2}],
            "buckets": {"my-bucket": {"in/demo.json": "{}"}},
            "scripts": [
                {"job": "train*", "command": "90s", "exit_code": 3},
                {"commands": {"seconds": "20ms", "fails": [3], "panics": [5], "output": 10}},
            ],
        }
    )
    assert made.machine is Kind.QEMU
    assert made.conditions.capacity == (Capacity(None, Where("spot", "g5.*"), 600.0),)
    assert made.conditions.interruptions == (Interruption(5400.0, 0.5, Where(), None),)
    assert made.conditions.rebalances == (Rebalance(10.0, Where(type="g5.*"), 1),)
    assert (made.faults[0].effect, made.faults[0].when, made.faults[0].times) == (Effect.RESET, When.AFTER, 2)
    assert made.buckets == {"my-bucket": {"in/demo.json": b"{}"}}
    assert (made.scripts[0].command, made.scripts[0].exit_code) == (90.0, 3)
    listed = CommandScript(0.02, fails=frozenset({3}), panics=frozenset({5}), output=10)
    assert made.scripts[1].commands == listed


def test_a_scenario_of_a_misleading_cloud() -> None:
    """Every misleading behaviour can be configured in a file."""
    made = parse(
        {
            "flap": "40s",
            "zone_troubles": [{"ends": "10m", "zone": "*-1a"}],
            "absences": [{"at": "1m", "ends": "2m", "market": "spot"}],
            "fleet_limits": [{"ends": "30s"}],
            "unheeded": [{"times": 2}],
            "replay_errors": True,
        }
    ).conditions
    assert (made.flap, made.replay_errors) == (40.0, True)
    assert made.zone_troubles == (ZoneTrouble(0.0, 600.0, "*-1a"),)
    assert made.absences == (Absence(60.0, 120.0, Where(market="spot")),)
    assert made.fleet_limits == (FleetLimit(0.0, 30.0),)
    assert made.unheeded == (Unheeded(2),)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"boot_dealy": "1s"}, "1: boot_dealy: unknown field; did you mean boot_delay?"),
        ({"machine": "xen"}, "1: machine: found 'xen'; write 'light', 'scripted' or 'qemu'"),
        ({"boot_delay": "soon"}, "1: boot_delay: found 'soon'; write a duration as 90s"),
        (
            {"capacity": [{"machines": 1}, {"machines": -1}]},
            "1: capacity[1].machines: found '-1'; write 0 or more",
        ),
        ({"faults": [{"effect": "explode"}]}, "1: faults[0].effect: found 'explode'; write 'error', "),
        ({"buckets": {"B": {}}}, "1: buckets.B: "),
        ([], "1: found a list; write a mapping"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(tmp_path: Path, data: Any, message: str) -> None:
    """The error is one line with the file, the line and the path of the field."""
    path = tmp_path / "scenario.yaml"
    path.write_text(json.dumps(data))
    with pytest.raises(Invalid) as raised:
        load(path)
    assert str(raised.value).startswith(f"{path}:{message}")
    assert "\n" not in str(raised.value)

"""scripts/live-check: its checks against the double, the recording, and what it leaves."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from provisioner.core.cloud.machines import ENDING
from provisioner.rehearsal import scenario
from provisioner.rehearsal.aws.faults import Effect, Rule, When
from provisioner.rehearsal.double import Double
from provisioner.rehearsal.machines.light import LightHost
from scripts.live import __main__ as live
from scripts.live import stage
from scripts.live.checks import CHECKS
from scripts.live.recording import recorded

PRICES = [
    {"market": market, "type": name, "dollars": dollars}
    for name, dollars in (("t3.micro", 0.0104), ("t4g.micro", 0.0084), ("g4dn.xlarge", 0.526))
    for market in ("on-demand", "spot")
]


@dataclass
class Account:
    double: Double
    #: Calls live-check with these arguments and returns its exit code.
    check: Callable[..., int]
    folder: Path


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    """An account at the double, with the settings of an installation in it."""
    told = scenario.parse(
        {"boot_delay": "0s", "end_delay": "0s", "prices": PRICES, "disk": {"gib": 0.08}, "quotas": [{"vcpus": 64}]}
    )
    monkeypatch.setattr(stage, "FUSE", 3)
    monkeypatch.setattr(stage, "PAUSE", 0.05)
    with Double(told, LightHost(tmp_path / "machines", gpus=lambda name: double.gpus(name))) as double:
        for name, value in double.environment().items():
            monkeypatch.setenv(name, value)
        settings = {
            "installation": double.installation,
            "region": double.region,
            "bucket": double.bucket,
            "subnets": list(double.account.subnets),
            "store": str(tmp_path / "store.db"),
        }
        lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
        lines += ["[rehearsal]", f'endpoint = "{double.url}"', "busy_interval = 0.1"]
        (tmp_path / "settings.toml").write_text("\n".join(lines) + "\n")

        def check(*words: str) -> int:
            common = ("--settings", str(tmp_path / "settings.toml"), "--yes")
            monkeypatch.setattr(sys, "argv", ["live-check", *common, *words])
            return live.main()

        yield Account(double, check, tmp_path)


def results(folder: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((folder / live.ABOUT).read_text())["results"]
    return found


def running(account: Account) -> list[str]:
    """Return the machines whose end has not begun."""
    return [each.id for each in account.double.alive() if each.state not in ENDING]


def test_every_check_passes_on_the_double_and_again_with_its_answers(account: Account, capsys: Any) -> None:
    """The checks see what the double answers; a replay of the recorded answers sees the same, without a server."""
    folder = account.folder / "answers"
    code = account.check("--into", str(folder))
    printed = capsys.readouterr().out
    assert code == 0, printed
    # The double's login of the control plane has no other rights than the control plane.
    assert results(folder) == dict.fromkeys((*(each.name for each in CHECKS), *live.RUNS), live.EXPECTED), printed
    assert {each.operation for each in recorded(folder)} >= {"CreateFleet", "GetObject", "GetProducts"}
    assert not running(account)
    calls = len(account.double.calls.every)
    assert account.check("--replay", str(folder)) == 0
    assert len(account.double.calls.every) == calls
    replayed = capsys.readouterr().out
    assert [line.split()[0] for line in replayed.splitlines()] == [each.name for each in CHECKS]


MACHINES = [each.name for each in CHECKS if each.machines]


def test_a_machine_that_would_exceed_the_cap_is_not_launched(account: Account) -> None:
    """Each check that launches a machine is skipped, and the skipped checks are no failure."""
    folder = account.folder / "answers"
    assert account.check("--into", str(folder), "--cap", "0.001", "--only", ",".join([*MACHINES, *live.RUNS])) == 0
    assert set(results(folder).values()) == {live.SKIPPED}
    assert account.double.calls.of("ec2", "CreateFleet") == []


@pytest.mark.parametrize("unknown", [{"prices": ()}, {"disk": None}], ids=["machine", "disk"])
def test_without_a_price_no_machine_is_launched(account: Account, unknown: dict[str, Any]) -> None:
    """An unknown price, of the machine or of its disk, could exceed any cap."""
    account.double.change(**unknown)
    folder = account.folder / "answers"
    assert account.check("--into", str(folder), "--only", "terminate,run") == 0
    assert set(results(folder).values()) == {live.SKIPPED}
    assert account.double.calls.of("ec2", "CreateFleet") == []


def test_a_machine_is_ended_although_the_answer_to_its_launch_was_lost(account: Account) -> None:
    """The check is a surprise, and the machine is found by the tag of its launch."""
    account.double.faults.add(Rule(Effect.RESET, When.AFTER, "ec2", "CreateFleet"))
    folder = account.folder / "answers"
    assert account.check("--into", str(folder), "--only", "terminate") == 1
    assert results(folder) == {"terminate": live.UNEXPECTED}
    assert len(account.double.history()) == 1
    assert not running(account)


def test_an_interruption_ends_the_machines(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while a check waits: the machine is ended, and the results so far are kept."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stage.Stage, "until", interrupt)
    folder = account.folder / "answers"
    with contextlib.suppress(KeyboardInterrupt):
        account.check("--into", str(folder), "--only", "login,launch")
    assert results(folder) == {"login": live.EXPECTED}
    assert len(account.double.history()) == 1
    assert not running(account)


def test_another_answer_than_the_doubles_is_a_surprise(account: Account, capsys: Any) -> None:
    """An error that no other check expects is printed, and the exit code is 1."""
    account.double.faults.add(Rule(Effect.ERROR, action="DescribeImages", code="Odd", message="unheard of", status=400))
    folder = account.folder / "answers"
    assert account.check("--into", str(folder), "--only", "facts") == 1
    assert "unheard of" in capsys.readouterr().out


def test_a_folder_that_exists_is_refused(account: Account, capsys: Any) -> None:
    """Answers of two calls never mix."""
    assert account.check("--into", str(account.folder), "--only", "login") == 1
    assert "name a new folder with --into" in capsys.readouterr().err


def test_the_page_names_every_check() -> None:
    """`not-yet-proven` lists the checks by the names that `--only` accepts, in their order."""
    page = (Path(__file__).parents[1] / "provisioner" / "docs" / "not-yet-proven.md").read_text()
    named = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")]
    assert named == [*(each.name for each in CHECKS), *live.RUNS]

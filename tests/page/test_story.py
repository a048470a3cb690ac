"""What a user sees of runs on light machines, in Chromium: without a reload, the page shows what happens."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from provisioner.core.views.run import Run
from tests.api.served import Server
from tests.e2e.rig import Rig, rig
from tests.page.browser import Window
from tests.page.conftest import window

#: A command that works until it gets SIGTERM.
WAITING = "echo working on attempt $PROVISION_ATTEMPT; trap 'echo saved; exit 0' TERM; while :; do sleep 0.1; done"


@dataclass
class Whole:
    """An installation on light machines, and its server, which acts."""

    rig: Rig
    server: Server

    def interrupt(self, run: Run, attempt: int) -> None:
        """Send the machine of an attempt its notice of interruption."""
        nodes = self.rig.service.installation.store.nodes(run.id)
        [node] = [each for each in nodes if each.attempt == attempt]
        self.rig.double.interrupt(node.instance_id, notice=1.0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    folder = tmp_path_factory.mktemp("whole")
    with (
        pytest.MonkeyPatch.context() as patch,
        rig(folder, patch) as made,
        Server(made.settings) as server,
    ):
        yield Whole(made, server)


@pytest.fixture
def found(chromium: Browser, whole: Whole) -> Iterator[Window]:
    with window(chromium, whole.server, "tester") as opened:
        yield opened


def start(whole: Whole, command: str | list[str], **spec: Any) -> Run:
    record = whole.rig.start(command, owner="tester", **spec)
    return whole.rig.service.runs.get(record.id)


def test_interruption_and_resumption_appear_in_the_waterfall(whole: Whole, found: Window) -> None:
    run = start(whole, WAITING, use_spot_instance=True)
    found.open(f"/run/{run.id}")
    now, fall = found.page.locator("#now"), found.page.locator("#waterfall")
    expect(now.get_by_text("running", exact=True).first).to_be_visible()
    whole.interrupt(run, 1)
    expect(fall.get_by_text("interrupted")).to_be_visible()
    expect(fall.get_by_role("img", name=re.compile("^Attempt 2.*command"))).to_be_visible()
    # The stop needs a confirmation.
    now.get_by_text("Stop…").click()
    now.get_by_role("button", name="Stop the run").click()
    expect(now.get_by_text("cancelled", exact=True).first).to_be_visible()
    expect(fall.get_by_text("cancelled")).to_be_visible()
    expect(found.page.locator("#story")).to_contain_text("interrupt")


def test_failed_commands_of_a_list_are_shown_with_their_output(whole: Whole, found: Window) -> None:
    run = start(whole, ["echo one", "echo two >&2; exit 7", "echo three"], nprocs=2)
    found.open(f"/run/{run.id}")
    commands = found.page.locator("#list")
    expect(commands.get_by_text("3 of 3 ended")).to_be_visible()
    expect(commands.get_by_role("img", name=re.compile("2 succeeded, 1 failed"))).to_be_visible()
    expect(commands.get_by_text("echo two")).to_be_visible()


def test_each_rank_of_a_gang_has_a_row(whole: Whole, found: Window) -> None:
    run = start(whole, "echo rank $RANK; [ $RANK = 0 ]", scale=2)
    found.open(f"/run/{run.id}")
    expect(found.page.locator("#now").get_by_text("failed", exact=True).first).to_be_visible()
    fall = found.page.locator("#waterfall")
    expect(fall.get_by_role("img", name=re.compile("^Attempt 1, rank 0"))).to_be_visible()
    expect(fall.get_by_role("img", name=re.compile("^Attempt 1, rank 1"))).to_be_visible()

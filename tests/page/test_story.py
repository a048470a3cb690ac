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
from tests.polling import until

#: A job that works until it gets SIGTERM.
RECIPE = """type: job
spec:
  name: train
  image: any
  instance_type: g5.xlarge
  use_spot_instance: true
  command: |
    echo "attempt $PROVISION_ATTEMPT works for $WHO"
    trap 'echo saved; exit 0' TERM
    while :; do sleep 0.1; done
"""

PRICES = [{"market": "spot", "dollars": 0.45}, {"market": "on-demand", "dollars": 1.006}]


@dataclass
class Whole:
    """An installation on light machines, and its server, which acts."""

    rig: Rig
    server: Server

    def interrupt(self, run: str, attempt: int) -> None:
        """Send the machine of an attempt its notice of interruption."""
        nodes = self.rig.service.installation.store.nodes(run)
        [node] = [each for each in nodes if each.attempt == attempt]
        self.rig.double.interrupt(node.instance_id, notice=1.0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    folder = tmp_path_factory.mktemp("whole")
    with (
        pytest.MonkeyPatch.context() as patch,
        rig(folder, patch, prices=PRICES) as made,
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


def test_a_run_from_its_recipe_to_its_stop(whole: Whole, chromium: Browser) -> None:
    """The page shows the live log, an interruption, the next attempt and the stop, without being loaded again."""
    with window(chromium, whole.server) as found:
        page = found.page
        found.log_in(whole.server.token("tester"))
        page.get_by_role("link", name="New job").first.click()
        page.get_by_label("Recipe").fill(RECIPE)
        page.get_by_role("button", name="Apply").click()
        page.get_by_label("Name of variable 1").fill("WHO")
        page.get_by_label("Value of variable 1").fill("you")
        page.get_by_role("button", name="Start", exact=True).click()
        page.wait_for_url(re.compile("/run/[0-9a-f]{32}$"))
        loads = len([address for address in found.requests if address == page.url])
        run = page.url.rpartition("/")[2]
        now, fall, log = page.locator("#now"), page.locator("#waterfall"), page.locator("#log")
        expect(now.get_by_text("running", exact=True).first).to_be_visible()
        expect(log.get_by_text("attempt 1 works for you")).to_be_visible()
        whole.interrupt(run, 1)
        expect(fall.get_by_text("interrupted")).to_be_visible()
        expect(fall.get_by_role("img", name=re.compile("^Attempt 2.*command"))).to_be_visible()
        expect(log.get_by_text("attempt 2 works for you")).to_be_visible()
        # The stop needs a confirmation.
        now.get_by_text("Stop…").click()
        now.get_by_role("button", name="Stop the run").click()
        expect(now.get_by_text("cancelled", exact=True).first).to_be_visible()
        expect(fall.get_by_text("cancelled")).to_be_visible()
        expect(page.locator("#story")).to_contain_text("interrupt")
        # The stop's form has loaded the page once more.
        assert len([address for address in found.requests if address == page.url]) == loads + 1


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


def test_usage_has_a_chart_with_the_cost_of_a_run(whole: Whole, found: Window) -> None:
    run = start(whole, "true")
    until(lambda: whole.rig.service.runs.record(run.id).done_at is not None, "the run's end", patience=180)
    found.open("/usage?by=job")
    expect(found.page.get_by_role("img", name=re.compile("^Dollars by day"))).to_be_visible()
    expect(found.page.get_by_role("region", name="Usage by group")).to_contain_text(run.job)

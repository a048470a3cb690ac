"""A machine that waits for the next attempt of its run: when it waits, and that it begins anew."""

import time
from pathlib import Path

import pytest

from provisioner.core.protocol import codec
from provisioner.core.protocol.keys import log_prefix, orders_key, peers_key, result_key, started_key, work_key
from provisioner.core.protocol.messages import Orders, Peers, Report, Result, Stop, WorkOrder
from provisioner.core.protocol.words import Outcome, Step
from tests.agent.conftest import Site
from tests.polling import until

#: The command of both attempts. It fails in the first one, as if a peer was lost, and succeeds in the second.
COMMAND = """
ls -A > seen; cat seen; echo attempt $PROVISION_ATTEMPT; touch left-behind
test $PROVISION_ATTEMPT = 2 || exit 1
"""


def order(site: Site, attempt: int = 1) -> WorkOrder:
    return site.order(COMMAND, attempt=attempt, scale=2, gather_limit=60.0, waiting_limit=300.0)


def gather(site: Site, machine: str, attempt: int = 1) -> None:
    """Give the machine what it needs to begin: the addresses of both ranks, and the order to start."""
    peers = Peers("run-1", attempt, ("10.0.0.1", "10.0.0.2"))
    site.put(peers_key(site.box(machine)), codec.encode(peers))
    site.put(orders_key(site.box(machine)), codec.encode(Orders(start=attempt, attempt=attempt)))


def last(site: Site, machine: str) -> Report:
    return max(site.reports(machine), key=lambda report: report.sequence)


def waits(site: Site, machine: str) -> bool:
    return any(report.waits for report in site.reports(machine))


def offered(site: Site) -> str:
    """Return a machine that waits for the second attempt."""
    machine = site.start(order(site))
    gather(site, machine)
    until(lambda: waits(site, machine), "the machine's offer", lambda: site.host.console(machine))
    return machine


def second(site: Site, machine: str) -> tuple[Result, bytes]:
    """Return the result and the output of the second attempt."""
    box = site.box(machine)
    output = b"".join(site.get(key) or b"" for key in site.keys(log_prefix(box, "output", 2)))
    return codec.decode(Result, site.get(result_key(box, 2)) or b""), output


def test_waiting_machine_executes_the_next_attempt_from_the_beginning(site: Site) -> None:
    """No file, log byte or order of the first attempt is seen by the second."""
    machine = offered(site)
    assert site.result(machine).exit_code == 1
    stop = Stop(Outcome.INTERRUPTED, "EC2 interrupts the machine of rank 1", time.time(), ends_run=False)
    stale = Orders(stop, attempt=1)
    site.put(orders_key(site.box(machine)), codec.encode(stale))
    site.put(work_key(site.box(machine), 2), codec.encode(order(site, 2)))
    until(lambda: last(site, machine).attempt == 2, "a report of the second attempt")
    gather(site, machine, 2)
    site.wait_off(machine)
    result, output = second(site, machine)
    assert (result.attempt, result.outcome, result.exit_code) == (2, Outcome.SUCCEEDED, 0), result
    assert output == b"seen\nattempt 2\n"
    assert site.log(machine) == b"seen\nattempt 1\n", "the first attempt's log stays"
    assert result.streams["output"].length == len(output)
    boot = result.spans[Step.BOOT]
    assert boot.began > site.result(machine).at, "the second attempt has no boot of its own"
    sequences = [report.sequence for report in site.reports(machine)]
    assert len(set(sequences)) == len(sequences)
    assert site.get(started_key(site.box(machine), 2)) is not None


def test_agent_that_dies_while_its_machine_waits_is_replaced_and_waits_on(site: Site) -> None:
    machine = offered(site)
    site.kill_agent(machine)
    site.put(work_key(site.box(machine), 2), codec.encode(order(site, 2)))
    gather(site, machine, 2)
    site.wait_off(machine)
    assert second(site, machine)[0].outcome is Outcome.SUCCEEDED


def test_agent_that_dies_in_the_second_attempt_is_replaced_there(site: Site) -> None:
    """The second agent process must not take the first attempt's state for its own."""
    machine = offered(site)
    again = order(site, 2)
    site.put(work_key(site.box(machine), 2), codec.encode(again))
    until(lambda: last(site, machine).attempt == 2, "a report of the second attempt")
    site.kill_agent(machine)
    gather(site, machine, 2)
    site.wait_off(machine)
    result, _ = second(site, machine)
    assert (result.attempt, result.outcome) == (2, Outcome.LOST)
    assert "the agent died at" in result.reason


@pytest.mark.parametrize(("code", "limit"), [(1, 0.0), (1, 1.0), (0, 60.0)], ids=["released", "too long", "succeeded"])
def test_machine_powers_off_if_it_need_not_wait_on(site: Site, code: int, limit: float) -> None:
    machine = site.start(site.order(f"exit {code}", scale=2, gather_limit=60.0, waiting_limit=limit))
    gather(site, machine)
    site.wait_off(machine)
    assert waits(site, machine) is (limit == 1.0)
    assert not last(site, machine).waits


def test_machine_powers_off_after_a_users_stop(site: Site) -> None:
    """The run ends, so no attempt follows."""
    machine = site.start(site.order("echo up; sleep 60", scale=2, gather_limit=60.0, waiting_limit=60.0))
    gather(site, machine)
    site.wait_output(machine, b"up")
    site.give_orders(machine, Orders(Stop(Outcome.CANCELLED, "stopped by a user", time.time()), attempt=1))
    site.wait_off(machine)
    assert not waits(site, machine)


def test_machine_with_a_spot_notice_does_not_wait_on(site: Site) -> None:
    """Its next attempt would be interrupted at once. The last report withdraws the offer."""
    machine = offered(site)
    site.metadata.announce(machine, time.time() + 2)
    until(lambda: not last(site, machine).waits, "a report without the offer")
    assert last(site, machine).notice is not None


def test_job_cannot_make_the_agent_delete_files_elsewhere(site: Site, tmp_path: Path) -> None:
    """The working directory of the next attempt is made anew; a link that the job left there is not followed."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "kept").touch()
    command = f"cd ..; rm -rf workspace; ln -s {victim} workspace; exit 1"
    machine = site.start(site.order(command, scale=2, gather_limit=60.0, waiting_limit=60.0))
    gather(site, machine)
    site.wait_off(machine)
    assert (victim / "kept").exists()
    assert not waits(site, machine)

"""The steps of a machine that waits for the next attempt of its run, after another machine of the run was lost.

The machine is cleared first: the next attempt finds the image, but no file and no process of this attempt. For the next
attempt this process replaces itself by a new agent process, which begins with the work order.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

from provisioner.agent.machine import files
from provisioner.agent.machine.paths import Paths
from provisioner.agent.node import Node
from provisioner.core.protocol.messages import Started
from provisioner.core.protocol.words import ENDED_BY_OTHERS

#: Seconds between two requests for the next work order.
LOOK_EVERY = 1.0


def present(paths: Paths) -> int:
    """Return the attempt that this machine works for, or 0 if it is its first one; delete the logs of earlier ones."""
    try:
        later = int(paths.attempt.read_text())
    except FileNotFoundError:
        return 0
    for folder in paths.home.glob("log*"):
        if folder != paths.log(later):
            shutil.rmtree(folder)
    return later


def offer_machine(node: Node) -> None:
    """If the next attempt may use this machine, clear it, so that the last report can offer it."""
    stop, result = node.orders.stop, node.result
    if not node.order.waiting_limit or result is None or result.outcome not in ENDED_BY_OTHERS:
        return
    if node.notice is not None or (stop is not None and stop.ends_run):
        return
    # In the folder that agent and job share, an agent process that takes over would find the exit code of this attempt.
    for folder in (*_folders(node), node.paths.job_dir, node.paths.credentials):
        if folder.exists():
            shutil.rmtree(folder)
    # After a restart of the machine, an agent process must not execute this work order again.
    node.mailbox.start(Started(node.process, time.time()))
    node.waits = node.mailbox.wait()


def _folders(node: Node) -> list[Path]:
    """Return the job's folders, outer ones first: the job may have replaced inner ones by links to other folders."""
    order = node.order
    paths = {order.working_directory, *(repository.path for repository in order.repositories)}
    return sorted((Path(node.engine.folder(path)) for path in paths), key=lambda path: len(path.parts))


def wait_for_work(node: Node) -> None:
    """If this machine was offered, wait for the next work order, and start a new agent process for it."""
    if not node.waits or node.result is None:
        return
    later, reported_at = node.order.attempt + 1, time.monotonic()
    fuse = node.machine.launch_time + node.order.lifetime
    end = min(node.result.at + node.order.waiting_limit, fuse)
    while time.time() < end and node.notice is None:
        if node.mailbox.later_work(later) is not None:
            files.replace(node.paths.attempt, str(later).encode())
            os.execv(sys.executable, sys.orig_argv)
        if time.monotonic() >= reported_at + node.order.heartbeat_interval:
            reported_at = time.monotonic()
            node.report()
        time.sleep(LOOK_EVERY)
    node.waits = False
    node.report()

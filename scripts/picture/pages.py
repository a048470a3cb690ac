"""Take pictures of the pages in Chromium, from a rehearsal on light machines.

    python -m scripts.picture.pages [FOLDER]

FOLDER gets every page at three widths and in both themes: they are to be looked at, and not committed. Without it, only
the pictures of the documentation are renewed.
"""

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from scripts.picture.past import earlier
from tests.api.served import Server
from tests.e2e.rig import Rig, rig
from tests.page.browser import WIDTHS, Theme, Window, chromium, window
from tests.page.conftest import visitor
from tests.polling import until

PICTURES = Path(__file__).parents[2] / "provisioner" / "docs" / "pictures"
THEMES: tuple[Theme, ...] = ("light", "dark")
#: The pictures of the documentation: the page, the theme, and the height of the picture.
DOCUMENTED: Mapping[str, tuple[str, Theme, int]] = {
    "page-jobs": ("jobs", "light", 560),
    "page-job": ("job", "light", 900),
    "page-run": ("run", "light", 900),
    "page-log": ("log", "dark", 700),
    "page-usage": ("usage", "light", 800),
}
#: Maximum number of bytes of a picture in the repository.
MOST = 150_000
#: Runs of past weeks, and how much longer they take than those of the rehearsal.
PAST, STRETCH = 34, 400.0

TRAIN = """
echo "resuming from step $((PROVISION_ATTEMPT - 1))00"
trap 'echo "SIGTERM: saved the checkpoint"; exit 0' TERM
step=$((PROVISION_ATTEMPT - 1))00
while [ $step -lt 240 ]; do
    step=$((step + 4)); printf 'step %4d  loss \\033[32m%s\\033[0m\\n' $step "0.$((9000 / (step + 10)))"; sleep 0.05
done
[ -z "$PROVISION_FOREVER" ] || while :; do sleep 0.2; echo "step $((step=step+1))  evaluating"; done
"""
GANG = 'for i in 1 2 3 4 5 6; do echo "rank $RANK: all-reduce $i"; sleep 0.2; done'
SHARD = "echo shard {0}; sleep 0.{1}; [ {2} != 3 ] || (echo 'no such file: shard-{0}'; exit 2)"
SHARDS = [SHARD.format(number, number % 5, number % 17) for number in range(60)]
SPOT: dict[str, Any] = {"use_spot_instance": True, "placement": {"spot_fallback": True}}


def main(folder: Path | None) -> None:
    conditions: dict[str, Any] = {
        "boot_delay": "1s",
        "prices": [
            {"market": "spot", "dollars": 0.45},
            {"market": "on-demand", "dollars": 1.006},
            {"market": "on-demand", "type": "p5.*", "dollars": 55.04},
        ],
        "capacity": [{"market": "*", "type": "p5.48xlarge", "machines": 0}],
    }
    with (
        tempfile.TemporaryDirectory() as name,
        pytest.MonkeyPatch.context() as patch,
        rig(Path(name) / "rig", patch, **conditions) as made,
        Server(made.settings) as server,
        chromium(Path(name)) as browser,
    ):
        made.double.change(disk=(0.08, 0.0, 0.0))
        paths = _rehearse(made)
        with visitor(server, "ann", "bob", admin=True) as admin:
            cookies = dict(admin.client.cookies)
            until(lambda: "Not counted yet" not in admin.get("/usage").text, "usage of past runs", patience=120)
        for theme in THEMES:
            for width in WIDTHS.values():
                if folder is None and width != WIDTHS["desk"]:
                    continue
                with window(browser, server.url, cookies=cookies, width=width, theme=theme) as opened:
                    _take(opened, paths, theme, width, folder)


def _rehearse(made: Rig) -> dict[str, str]:
    """Let runs happen; return the pages to take pictures of."""
    service, store = made.service, made.service.installation.store

    tags = {"project": "vision"}
    interrupted = made.start(TRAIN, name="train", owner="ann", tags=tags, description="ResNet-50 on spot", **SPOT)
    until(lambda: service.runs.record(interrupted.id).state == "running", "a running run")
    [first] = store.nodes(interrupted.id)
    made.double.interrupt(first.instance_id, notice=2.0)
    gang = made.start(GANG, name="pretrain", owner="bob", scale=3)
    listed = made.start(SHARDS, name="shards", owner="bob", nprocs=4, scale=2)
    failed = made.start("echo 'CUDA error: out of memory' >&2; exit 1", name="evaluate", owner="ann")
    made.start("torchrun train.py", name="llm", owner="bob", instance_type="p5.48xlarge")
    ended = [interrupted, gang, listed, failed]
    until(lambda: all(service.runs.record(run.id).done_at for run in ended), "the ends of the runs", patience=180)
    for number in range(PAST):
        of = service.runs.record((interrupted, interrupted, gang, interrupted, failed)[number % 5].id)
        store.save(list(earlier(store, of, number + 1, (number + 0.3) * 0.8 * 86400, STRETCH + 37 * (number % 7))))
    live = service.runs.start("ann/train", {"PROVISION_FOREVER": "1"})
    until(lambda: service.runs.record(live.id).state == "running", "a running run")
    first = next(iter(store.nodes(live.id)))
    made.double.interrupt(first.instance_id, notice=2.0)
    until(lambda: len(store.nodes(live.id)) == 2, "the next attempt")
    until(lambda: service.runs.record(live.id).state == "running", "a running run")
    job = service.runs.record(live.id).job_id
    return {
        "jobs": "/jobs", "job": f"/job/{job}", "run": f"/run/{live.id}", "log": f"/run/{live.id}/log",
        "run-ended": f"/run/{interrupted.id}", "run-gang": f"/run/{gang.id}", "run-list": f"/run/{listed.id}",
        "run-failed": f"/run/{failed.id}", "runs": "/runs", "queue": "/queue", "machines": "/machines",
        "usage": "/usage", "tokens": "/tokens", "audit": "/audit", "docs": "/docs", "apply": "/apply",
    }  # fmt: skip


def _take(opened: Window, paths: Mapping[str, str], theme: Theme, width: int, folder: Path | None) -> None:
    for name, path in paths.items():
        answer = opened.open(path)
        if not answer.ok:
            print(f"{path}: {answer.status}", file=sys.stderr)
            continue
        opened.page.wait_for_load_state("networkidle")
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
            opened.page.screenshot(path=folder / f"{name}-{width}-{theme}.png", full_page=True)
        for picture, (page, wanted, height) in DOCUMENTED.items():
            if (page, wanted, WIDTHS["desk"]) == (name, theme, width):
                opened.page.set_viewport_size({"width": width, "height": height})
                data = opened.page.screenshot()
                if len(data) > MOST:
                    raise ValueError(f"{picture}.png has {len(data)} bytes; expected at most {MOST}")
                (PICTURES / f"{picture}.png").write_bytes(data)
    # The tests judge the faults of pages.
    opened.complaints.clear()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else None)

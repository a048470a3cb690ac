"""A bucket that does not answer, behind a real server."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from provisioner.adapters.s3 import S3
from provisioner.faces.api.http.reading import READERS
from provisioner.faces.api.http.serve import THREADS
from tests.api.served import Server
from tests.e2e.rig import rig


def test_hanging_log_reads_do_not_delay_a_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any number of readers may wait; each gets its answer when the bucket answers."""
    asked, answering, get = threading.Semaphore(0), threading.Event(), S3.get

    def hanging(self: S3, key: str, **options: Any) -> bytes | None:
        asked.release()
        answering.wait()
        return get(self, key, **options)

    with rig(tmp_path, monkeypatch) as whole:
        (run,) = whole.done(whole.start("echo there"))
        readers = 2 * THREADS
        with (
            Server(whole.settings, acting=False) as server,
            server.client(server.token("tester")) as client,
            ThreadPoolExecutor(readers) as pool,
        ):
            monkeypatch.setattr(S3, "get", hanging)
            try:
                reads = [pool.submit(client.get, f"/api/runs/{run.id}/logs") for _ in range(readers)]
                for _ in range(READERS // 2):
                    assert asked.acquire(timeout=60)
                assert client.post(f"/api/jobs/{run.job_id}/start").status_code == 200
            finally:
                answering.set()
            assert {read.result().json()["pieces"][0]["text"] for read in reads} == {"there\n"}

"""A process that has run out of file descriptors: its errors say so."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest
from botocore.exceptions import EndpointConnectionError

from provisioner.adapters import aws
from provisioner.adapters.descriptors import shortage
from provisioner.adapters.ec2.codes import translate
from provisioner.core.errors import NeedsOperator, Transient

#: A program that runs out of descriptors, calls the store and AWS, and prints each error's class and code.
_STARVED = """
import json, os, resource, sys
from pathlib import Path
from provisioner.adapters import aws
from provisioner.adapters.ec2.cloud import Ec2
from provisioner.adapters.ec2.codes import translate
from provisioner.adapters.sql.store import SqlStore
from provisioner.rehearsal.fakes.clock import CountingIds
store = SqlStore(Path(sys.argv[1]), CountingIds())
session = aws.Session("us-east-1", "http://127.0.0.1:9")
cloud = Ec2("test", session, ["subnet-1"], calls=aws.Calls(translate, attempts=1))
try:
    # What is imported is imported now.
    cloud.machines()
except Exception:
    pass
store.engine.dispose()
free = os.dup(0)
os.close(free)
resource.setrlimit(resource.RLIMIT_NOFILE, (free, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
told = []
for call in (store.runs, cloud.machines):
    try:
        call()
    except Exception as error:
        told.append([type(error).__name__, getattr(error, "code", "")])
print(json.dumps(told))
"""


def test_calls_without_free_descriptors_raise_emfile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error must not blame the store or the cloud."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    words = [sys.executable, "-c", _STARVED, str(tmp_path / "store.db")]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout) == [["NeedsOperator", "EMFILE"]] * 2


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_missing_file_is_found_behind_a_librarys_error(number: int) -> None:
    """botocore reports the missing descriptor as an endpoint that cannot be reached."""
    failed = EndpointConnectionError(endpoint_url="https://ec2", error=OSError(number, "too many"))
    found = aws.failure(failed, translate, lost=Transient)
    assert (type(found), found.code) == (NeedsOperator, errno.errorcode[number])


def test_other_errors_are_no_shortage() -> None:
    """Without EMFILE or ENFILE there is no shortage."""
    assert shortage(OSError(errno.ECONNREFUSED, "refused")) is None
    assert shortage() is None

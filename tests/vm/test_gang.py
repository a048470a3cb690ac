"""Two virtual machines of one run, on the network that they share."""

import pytest

from provisioner.core.protocol.words import Outcome
from tests.vm.conftest import SMALL, Boot

pytestmark = pytest.mark.vm(boots=2)

#: Each rank sends its number to the other one, at the host name that Saturn Cloud's documents build from variables.
TALK = """#!/bin/python3
import os, socket, threading, time
rank, port = int(os.environ["SATURN_JOB_RANK"]), 4000
other = "{SATURN_JOB_RUN}-%d.{SATURN_INTERNAL_SUBDOMAIN}.{SATURN_NAMESPACE}.svc.cluster.local".format(**os.environ)
server = socket.create_server(("", port))

def send():
    for _ in range(100):
        try:
            with socket.create_connection((other % (1 - rank), port), 5) as connection:
                connection.sendall(b"%d" % rank)
            return
        except OSError:
            time.sleep(0.5)

sender = threading.Thread(target=send)
sender.start()
connection, peer = server.accept()
print("rank", rank, "got", connection.recv(9).decode(), "from", peer[0])
sender.join()
assert socket.gethostbyname(os.environ["MASTER_ADDR"]) == socket.gethostbyname(other % 0)
"""


def test_ranks_exchange_messages_over_their_names(boot: Boot, python_image: str) -> None:
    with boot() as whole:
        run = whole.start(TALK, image=python_image, scale=2, **SMALL)
        [done] = whole.done(run)
        assert done.verdict
        assert done.verdict.outcome is Outcome.SUCCEEDED, done.verdict
        store = whole.service.installation.store
        addresses = {
            node.rank: machine.address for node in store.nodes(run.id) for machine in store.machines([node.instance_id])
        }
        for rank in (0, 1):
            assert whole.log(run, rank=rank).decode() == f"rank {rank} got {1 - rank} from {addresses[1 - rank]}\n"

"""Fixtures for the agent alone: a bucket, a metadata service and light machines, without a control plane."""

import contextlib
import dataclasses
import functools
import hashlib
import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

from provisioner.adapters import agent_package
from provisioner.core.cloud.user_data import user_data
from provisioner.core.protocol import codec
from provisioner.core.protocol.keys import agent_key, log_prefix, mailbox, orders_key, report_key, result_key, work_key
from provisioner.core.protocol.messages import Orders, Report, Result, WorkOrder
from provisioner.rehearsal.aws.metadata import Credentials, Metadata
from provisioner.rehearsal.machines.host import Guest
from provisioner.rehearsal.machines.light import LightHost
from tests.e2e.processes import agents
from tests.polling import until
from tests.support.work_orders import ORDER

ROLE = "AROAEXAMPLE"


@functools.cache
def agent_archive() -> bytes:
    return agent_package.build()


class Site:
    """A bucket and the machines that report to it."""

    def __init__(self, folder: Path, url: str, host: LightHost, metadata: Metadata) -> None:
        self.folder = folder
        self.url = url
        self.host = host
        self.metadata = metadata
        self.bucket = f"bucket-{uuid.uuid4().hex}"
        self.s3 = self.client("s3")
        self.s3.create_bucket(Bucket=self.bucket)
        data = agent_archive()
        self.sha256 = hashlib.sha256(data).hexdigest()
        self.s3.put_object(Bucket=self.bucket, Key=agent_key(self.sha256), Body=data)
        self.off: list[str] = []
        self.registry = ""
        #: Environment variables of machines that are booted from now on.
        self.variables: dict[str, str] = {}

    def boot(self, *, boot_fuse: int = 600, age: float = 0.0) -> str:
        """Boot a machine without a work order, launched `age` seconds ago; return its id."""
        instance_id = f"i-{uuid.uuid4().hex[:17]}"
        text = user_data(
            self.bucket, "", "us-east-1", ROLE, self.sha256, agent_package.fetch_source(), boot_fuse=boot_fuse
        )
        guest = Guest(
            instance_id=instance_id,
            instance_type="g5.xlarge",
            image_id="ami-1",
            region="us-east-1",
            zone="us-east-1a",
            market="spot",
            launch_time=time.time() - age,
            address="10.0.0.1",
            user_data=text,
            metadata_url=self.metadata.url(instance_id),
            aws_url=self.url,
        )
        self.metadata.add(guest)
        self.host.boot(guest, self.off.append)
        return instance_id

    def order(self, command: str, **changes: object) -> WorkOrder:
        return dataclasses.replace(ORDER, command=command, **changes)  # type: ignore[arg-type]

    def assign(self, instance_id: str, order: WorkOrder) -> None:
        self.put(work_key(self.box(instance_id)), codec.encode(order))

    def give_orders(self, instance_id: str, orders: Orders) -> None:
        self.put(orders_key(self.box(instance_id)), codec.encode(orders))

    def client(self, service: Any) -> Any:
        """Return a client with all rights."""
        return boto3.client(
            service, endpoint_url=self.url, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
        )

    def parameter(self, name: str, value: str) -> str:
        """Store a SecureString of this site's own; return its name in a work order."""
        name = f"/{self.bucket}/{name}"
        self.client("ssm").put_parameter(Name=name, Value=value, Type="SecureString")
        return f"ssm:{name}"

    def everything_said(self, machine: str) -> bytes:
        """Return the machine's console and all objects that it has put into the bucket, except the job's output."""
        keys = [key for key in self.keys("") if self.box(machine) in key and "/log/output/" not in key]
        return b"".join(self.get(key) or b"" for key in keys) + self.host.console(machine).encode()

    def start(self, order: WorkOrder, *, age: float = 0.0) -> str:
        """Boot a machine with this work order; return its id."""
        instance_id = self.boot(age=age)
        self.assign(instance_id, order)
        return instance_id

    def run(self, order: WorkOrder) -> str:
        """Run the order on a machine to the end; return the machine's id."""
        instance_id = self.start(order)
        self.wait_off(instance_id)
        return instance_id

    def wait_off(self, instance_id: str) -> None:
        until(lambda: instance_id in self.off, "the end of the machine", lambda: self.host.console(instance_id))

    def wait_output(self, instance_id: str, text: bytes, stream: str = "output") -> None:
        until(
            lambda: text in self.log(instance_id, stream),
            f"{text!r} in {stream}",
            lambda: self.host.console(instance_id),
        )

    @staticmethod
    def box(instance_id: str) -> str:
        return mailbox(ROLE, instance_id)

    def put(self, key: str, data: bytes) -> None:
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=data)

    def get(self, key: str) -> bytes | None:
        try:
            return bytes(self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read())
        except ClientError:
            return None

    def keys(self, prefix: str) -> list[str]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def log(self, instance_id: str, stream: str = "output") -> bytes:
        return b"".join(self.get(key) or b"" for key in self.keys(log_prefix(self.box(instance_id), stream)))

    def result(self, instance_id: str) -> Result:
        data = self.get(result_key(self.box(instance_id)))
        assert data is not None, f"no result: {self.host.console(instance_id)}"
        return codec.decode(Result, data)

    def whole_log(self, instance_id: str, stream: str = "output") -> bytes:
        """Return the log, after checking it against the EOF mark in the result."""
        data, end = self.log(instance_id, stream), self.result(instance_id).streams[stream]
        keys = self.keys(log_prefix(self.box(instance_id), stream))
        chunks = [(int(key.rpartition("/")[2]), len(self.get(key) or b"")) for key in keys]
        assert [(chunk.offset, chunk.length) for chunk in end.chunks] == chunks
        # An agent that took over does not know the checksum of the chunks shipped before it.
        assert (end.length, end.sha256 or hashlib.sha256(data).hexdigest()) == (
            len(data),
            hashlib.sha256(data).hexdigest(),
        )
        return data

    def agent(self, instance_id: str) -> int:
        """Return the pid of the agent's process."""
        [agent] = agents(self.folder / "machines" / instance_id)
        return agent

    def kill_agent(self, instance_id: str) -> None:
        """Kill the agent with SIGKILL, and wait for its successor."""
        agent, folder = self.agent(instance_id), self.folder / "machines" / instance_id
        os.kill(agent, signal.SIGKILL)
        until(lambda: set(agents(folder)) - {agent}, "another agent", lambda: self.host.console(instance_id))

    def reports(self, instance_id: str) -> list[Report]:
        prefix = report_key(self.box(instance_id), 0).rpartition("/")[0] + "/"
        keys = [key for key in self.keys(prefix) if "/records/" not in key]
        return [codec.decode(Report, self.get(key) or b"") for key in keys]


@pytest.fixture(scope="session")
def aws_url() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def site(tmp_path: Path, aws_url: str) -> Iterator[Site]:
    with sited(tmp_path, aws_url) as made:
        yield made


@contextlib.contextmanager
def sited(tmp_path: Path, aws_url: str, *, disk: int | None = None, **environment: str) -> Iterator[Site]:
    """Yield a site and remove it afterwards. Machines have these environment variables and a disk of `disk` bytes."""
    metadata = Metadata(lambda _: Credentials("AKIA", "secret", "token", time.time() + 3600), "role")
    metadata.start()
    variables = {"PROVISION_NOTICE_INTERVAL": "0.2", **environment}
    host = LightHost(tmp_path / "machines", environment=lambda _: variables, disk=lambda _: disk)
    try:
        site = Site(tmp_path, aws_url, host, metadata)
        site.variables = variables
        yield site
    finally:
        host.close()
        metadata.close()
        assert not list((tmp_path / "machines").glob("*")), "a machine left its folder behind"

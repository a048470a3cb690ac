"""Scripted machines: the protocol, with one machine and with many."""

import base64
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import boto3
import pytest

from provisioner.core.cloud.user_data import user_data
from provisioner.core.protocol import codec
from provisioner.core.protocol.batches import BatchHead, encode_batch
from provisioner.core.protocol.command_lines import read_ends
from provisioner.core.protocol.keys import (
    batch_key,
    chunk_key,
    log_prefix,
    mailbox,
    orders_key,
    records_prefix,
    result_key,
    started_key,
    work_key,
)
from provisioner.core.protocol.messages import ListOrders, ListWork, Orders, Result, Started, Stop, WorkOrder
from provisioner.core.protocol.words import Outcome
from provisioner.rehearsal.double import Double
from provisioner.rehearsal.machines.scripted import ScriptedHost
from provisioner.rehearsal.scenario import parse
from tests.polling import until
from tests.support.fleets import tags
from tests.support.work_orders import ORDER


class Rig:
    """A double with scripted machines, and a minimal control plane."""

    def __init__(self, double: Double) -> None:
        self.double = double
        given = double.environment()
        session = boto3.Session(given["AWS_ACCESS_KEY_ID"], given["AWS_SECRET_ACCESS_KEY"], None, "us-east-1")
        self.ec2: Any = session.client("ec2", endpoint_url=double.url)
        self.s3: Any = session.client("s3", endpoint_url=double.url)

    def launch(self, count: int) -> list[str]:
        text = user_data(self.double.bucket, "", "us-east-1", self.double.account.role_id, "0" * 64, "pass")
        data = {"ImageId": "ami-1", "UserData": _base64(text), "InstanceInitiatedShutdownBehavior": "terminate"}
        own = self.double.installation
        self.ec2.create_launch_template(
            LaunchTemplateName="template",
            LaunchTemplateData={**data, "TagSpecifications": [tags("network-interface", own)]},
            TagSpecifications=[tags("launch-template", own)],
        )
        template = {"LaunchTemplateName": "template", "Version": "1"}
        overrides = [{"InstanceType": "g5.xlarge", "SubnetId": next(iter(self.double.account.subnets))}]
        answer = self.ec2.create_fleet(
            Type="instant",
            LaunchTemplateConfigs=[{"LaunchTemplateSpecification": template, "Overrides": overrides}],
            TargetCapacitySpecification={"TotalTargetCapacity": count, "DefaultTargetCapacityType": "on-demand"},
            TagSpecifications=[tags(kind, own) for kind in ("fleet", "instance", "volume")],
        )
        return [one for group in answer["Instances"] for one in group["InstanceIds"]]

    def box(self, instance_id: str) -> str:
        return mailbox(self.double.account.role_id, instance_id)

    def put(self, key: str, message: object) -> None:
        self.s3.put_object(Bucket=self.double.bucket, Key=key, Body=codec.encode(message))

    def get(self, key: str) -> bytes:
        return bytes(self.s3.get_object(Bucket=self.double.bucket, Key=key)["Body"].read())

    def keys(self, prefix: str) -> list[str]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.double.bucket, Prefix=prefix)
        return [one["Key"] for page in pages for one in page.get("Contents", [])]

    def result(self, instance_id: str) -> Result:
        return codec.decode(Result, self.get(result_key(self.box(instance_id))))


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def order(run: str, job: str = "job") -> WorkOrder:
    return replace(ORDER, run=run, job=job, stop_grace=1.0, heartbeat_interval=0.1)


@pytest.fixture
def double_of() -> Callable[..., Double]:
    """Return a function that makes a double whose machines follow these scripts."""

    def made(**scenario: Any) -> Double:
        parsed = parse({"boot_delay": 0, "end_delay": 0, **scenario})
        return Double(parsed, ScriptedHost(parsed.scripts))

    return made


def test_a_scripted_machine_does_its_work(double_of: Callable[..., Double]) -> None:
    """The machine writes its `started` mark, reports, a log with its length, and a result; then it ends."""
    with double_of(scripts=[{"job": "job", "setup": "100ms", "command": 0, "exit_code": 3, "output": 1000}]) as double:
        rig = Rig(double)
        (one,) = rig.launch(1)
        rig.put(work_key(rig.box(one)), order("r1"))
        until(lambda: not double.alive(), "the end of all")
        result = rig.result(one)
        assert (result.run, result.outcome, result.exit_code) == ("r1", Outcome.FAILED, 3)
        assert codec.decode(Started, rig.get(started_key(rig.box(one)))).process == result.process
        log = b"".join(rig.get(key) for key in rig.keys(log_prefix(rig.box(one), "output")))
        assert len(log) == result.streams["output"].length == 1000
        assert rig.keys(f"inbox/{rig.box(one)}/")
        assert double.calls.unimplemented == []


def test_scripted_machine_ends_on_a_stop_order(double_of: Callable[..., Double]) -> None:
    """An order to stop ends the command with the ordered outcome."""
    with double_of(scripts=[{"command": "1h"}]) as double:
        rig = Rig(double)
        (one,) = rig.launch(1)
        rig.put(work_key(rig.box(one)), order("r1"))
        rig.put(orders_key(rig.box(one)), Orders(Stop(Outcome.CANCELLED, "stopped", time.time())))
        until(lambda: not double.alive(), "the end of all")
        assert (rig.result(one).outcome, rig.result(one).exit_code) == (Outcome.CANCELLED, 143)


def test_a_scripted_machine_falls_silent_or_goes(double_of: Callable[..., Double]) -> None:
    """A script can end a machine, or keep it running, without further reports."""
    scripts = [{"job": "goes", "command": "1h", "off_at": 0}, {"job": "silent", "command": "1h", "silent_at": 0}]
    with double_of(scripts=scripts) as double:
        rig = Rig(double)
        goes, silent = rig.launch(2)
        rig.put(work_key(rig.box(silent)), order("r2", "silent"))
        rig.put(work_key(rig.box(goes)), order("r1", "goes"))
        until(lambda: [one.id for one in double.alive()] == [silent], "the end of all others")
        assert rig.keys(f"machines/{rig.box(goes)}/result") == []


def test_a_scripted_machine_works_through_a_list(double_of: Callable[..., Double]) -> None:
    """The machine puts one record for each command, after its output, and ends when no batch follows."""
    with double_of(scripts=[{"commands": {"seconds": "10ms", "fails": [3], "output": 20}}]) as double:
        rig = Rig(double)
        (one,) = rig.launch(1)
        box = rig.box(one)
        head = BatchHead("r1", 1, 0, 1, ((0, 40, 1), (60, 1, 2)))
        rig.s3.put_object(Bucket=double.bucket, Key=batch_key(box, 1), Body=encode_batch(head, b"true\0" * 41))
        rig.put(orders_key(box), Orders(commands=ListOrders(batches=1, last=True)))
        rig.put(work_key(box), replace(order("r1"), commands=ListWork(slots=4, total=61)))
        until(lambda: not double.alive(), "the end of all")
        assert (rig.result(one).outcome, rig.result(one).exit_code) == (Outcome.SUCCEEDED, 0)
        data = b"".join(rig.get(key) for key in rig.keys(records_prefix(box)))
        ends = [each for each in read_ends(data) if not isinstance(each, str)]
        assert {(each.index, each.generation): each.code for each in ends} == {
            (index, 2 if index == 60 else 1): int(index == 3) for index in (*range(40), 60)
        }
        for each in ends:
            ((chunk, skip, length),) = each.extents
            written = rig.get(chunk_key(box, "output", chunk))[skip : skip + length]
            assert written == (f"{each.index} {each.generation}\n".encode() * 20)[:20]


def test_many_at_once(double_of: Callable[..., Double]) -> None:
    """Two hundred machines work at the same time, and all end."""
    with double_of(scripts=[{"command": "1s"}]) as double:
        rig = Rig(double)
        ids = rig.launch(200)
        for number, one in enumerate(ids):
            rig.put(work_key(rig.box(one)), order(f"r{number}"))
        until(lambda: not double.alive(), "the end of all", patience=240)
        assert len(rig.keys("machines/")) == 200 * 4, "work, started, one chunk, result"

"""A work order with plausible values, so that a test states only the fields it tests."""

from provisioner.core.protocol.messages import WorkOrder
from provisioner.core.protocol.words import Engine

ORDER = WorkOrder(
    run="run-1",
    attempt=1,
    rank=0,
    scale=1,
    job="job-1",
    job_id="jobid",
    owner="org/me",
    engine=Engine.PROCESS,
    image="image:1",
    gpus=0,
    command="true",
    start_script="",
    working_directory="/home/jovyan/workspace",
    environment={},
    repositories=(),
    pull_limit=60.0,
    setup_limit=60.0,
    runtime_limit=60.0,
    stop_grace=20.0,
    lifetime=600.0,
    heartbeat_interval=0.3,
)

"""Return a job's environment variables: those about the run, and those of the work order, which take precedence."""

from __future__ import annotations

from collections.abc import Mapping

from provisioner.agent.aws.imds import Identity
from provisioner.core.protocol.messages import WorkOrder
from provisioner.core.protocol.words import Attachment

#: The variables with the addresses of a rehearsal's AWS double; they are not set on a real machine.
HANDED_ON = ("AWS_ENDPOINT_URL", "AWS_EC2_METADATA_SERVICE_ENDPOINT")


def job_environment(
    order: WorkOrder, machine: Identity, own: Mapping[str, str], secrets: Mapping[str, bytes]
) -> dict[str, str]:
    """Return the job's variables; `own` is the agent's environment, `secrets` are values by name.

    The SATURN_* variables have the names that Saturn Cloud uses in its jobs.
    """
    rank, scale = str(order.rank), str(order.scale)
    return {
        **{name: own[name] for name in HANDED_ON if own.get(name)},
        "AWS_REGION": machine.region,
        "AWS_DEFAULT_REGION": machine.region,
        "RUN_ID": order.run,
        "JOB_NAME": order.job,
        "PROVISION_RUN_ID": order.run,
        "PROVISION_ATTEMPT": str(order.attempt),
        "PROVISION_RANK": rank,
        "PROVISION_SCALE": scale,
        "PROVISION_JOB": order.job,
        "PROVISION_JOB_ID": order.job_id,
        "PROVISION_OWNER": order.owner,
        "PROVISION_INSTANCE_ID": machine.instance_id,
        "PROVISION_INSTANCE_TYPE": machine.instance_type,
        "SATURN_JOB_RUN": order.run,
        "SATURN_JOB_RANK": rank,
        "SATURN_JOB_SCALE": scale,
        # A run has one node, which is its own leader.
        "SATURN_JOB_LEADER": machine.address,
        "SATURN_RESOURCE_ID": order.job_id,
        "SATURN_RESOURCE_TYPE": "job",
        "SATURN_USERNAME": order.owner.rpartition("/")[2],
        **({"PROVISION_CHECKPOINT": order.checkpoint} if order.checkpoint else {}),
        **order.environment,
        **{
            secret.location: secrets[secret.name].decode(errors="surrogateescape")
            for secret in order.secrets
            if secret.attachment is Attachment.VARIABLE
        },
    }

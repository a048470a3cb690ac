"""Make a job's environment variables: those about the run, and those of the work order, which take precedence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from provisioner.agent.aws.imds import Identity
from provisioner.core.protocol.keys import NAMESPACE, SUBDOMAIN
from provisioner.core.protocol.messages import WorkOrder
from provisioner.core.protocol.words import Attachment

#: The variables with the addresses of a rehearsal's AWS double; they are not set on a real machine.
HANDED_ON = ("AWS_ENDPOINT_URL", "AWS_EC2_METADATA_SERVICE_ENDPOINT")
#: Saturn's client, which executes the items of `sc split`, does not start without an address and a token; it uses them
#: only for sfs:// paths. A machine has no access to the API, and `invalid` is the address of no server (RFC 2606).
NO_API = {"SATURN_BASE_URL": "https://no-access.invalid", "SATURN_TOKEN": "none"}
#: The variable that names the GPUs that a program may use (CUDA C++ Programming Guide, "CUDA Environment Variables").
CUDA = "CUDA_VISIBLE_DEVICES"
#: Least number of seconds by which torchrun kills its workers earlier than the agent kills the job; and seconds from
#: SIGTERM to SIGKILL after a spot notice.
EARLIER, AFTER_NOTICE = 5.0, 100.0


def job_environment(
    order: WorkOrder, machine: Identity, own: Mapping[str, str], secrets: Mapping[str, bytes], leader: str
) -> dict[str, str]:
    """Return the job's variables; `own` is the agent's environment, `secrets` are values by name.

    `leader` is the host name or address of rank 0. The SATURN_* variables have the names that Saturn Cloud uses in its
    jobs.
    """
    commands = order.commands
    rank, scale = str(order.rank), str(commands.machines if commands else order.scale)
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
        "SATURN_JOB_LEADER": leader,
        "SATURN_INTERNAL_SUBDOMAIN": SUBDOMAIN,
        "SATURN_INTERNAL_DOMAIN": SUBDOMAIN,
        "SATURN_NAMESPACE": NAMESPACE,
        "SATURN_RESOURCE_ID": order.job_id,
        "SATURN_RESOURCE_TYPE": "job",
        "SATURN_USERNAME": order.owner.rpartition("/")[2],
        **(NO_API if commands else {}),
        **({"PROVISION_CHECKPOINT": order.checkpoint} if order.checkpoint else {}),
        **({"PROVISION_COMMANDS": str(commands.total), "PROVISION_SLOTS": str(commands.slots)} if commands else {}),
        **order.environment,
        **{
            secret.location: secrets[secret.name].decode(errors="surrogateescape")
            for secret in order.secrets
            if secret.attachment is Attachment.VARIABLE
        },
    }


def launcher_variables(order: WorkOrder, leader: str, port: int) -> dict[str, str]:
    """Return the variables with which launchers such as torchrun find the ranks; only the command gets them.

    `leader` and `port` are where rank 0 listens for the other ranks, unless the command chooses another port.
    torchrun reads PET_* (torch.distributed.run), so that a bare `torchrun train.py` works. RANK, WORLD_SIZE and
    LOCAL_RANK describe one process, so they are set only if each machine runs one process: it has at most one GPU.
    """
    if order.scale == 1 or not order.launcher_variables:
        return {}
    rank, scale, processes = str(order.rank), str(order.scale), str(max(1, order.gpus))
    one_process = {"RANK": rank, "WORLD_SIZE": scale, "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    return {
        "MASTER_ADDR": leader,
        "MASTER_PORT": str(port),
        "NODE_RANK": rank,
        "PET_NNODES": scale,
        "PET_NODE_RANK": rank,
        "PET_MASTER_ADDR": leader,
        "PET_MASTER_PORT": str(port),
        "PET_NPROC_PER_NODE": processes,
        "SATURN_NODE_RANK": rank,
        "SATURN_MASTER_ADDR": leader,
        "SATURN_NUM_NODES": scale,
        "SATURN_GPUS_PER_NODE": processes,
        # After a stop with a shorter grace period, the agent itself kills the workers.
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": f"{max(order.stop_grace, AFTER_NOTICE) - EARLIER:.0f}",
        # A container shares the machine's network, which has Docker's bridge (NCCL, "NCCL_SOCKET_IFNAME").
        "NCCL_SOCKET_IFNAME": "^lo,docker",
        **(one_process if processes == "1" else {}),
    }


def slot_variables(gpus: Sequence[Sequence[str]]) -> list[dict[str, str]]:
    """Return the variables of each slot of a list of commands; `gpus` has the UUIDs of each slot's GPUs."""
    return [
        {"PROVISION_SLOT": str(slot), **({CUDA: ",".join(uuids)} if uuids else {})} for slot, uuids in enumerate(gpus)
    ]

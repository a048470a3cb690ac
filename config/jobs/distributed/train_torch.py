"""Train a small model on several machines, and continue from the last checkpoint after an interruption.

    torchrun train_torch.py [STEPS]

Needs torch and boto3. Rank 0 keeps the checkpoint in the run's folder in S3 (PROVISION_CHECKPOINT).
"""

import io
import os
import signal
import sys
import time
from typing import Any

import boto3
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

#: Steps between two checkpoints.
SAVE_EVERY = 20


class Checkpoint:
    """The checkpoint, one object in S3."""

    def __init__(self, url: str) -> None:
        self._bucket, _, prefix = url.removeprefix("s3://").partition("/")
        self._key, self._s3 = f"{prefix}checkpoint", boto3.client("s3")

    def load(self, device: torch.device) -> dict[str, Any] | None:
        try:
            data = self._s3.get_object(Bucket=self._bucket, Key=self._key)["Body"].read()
        except self._s3.exceptions.NoSuchKey:
            return None
        return dict(torch.load(io.BytesIO(data), map_location=device))

    def save(self, state: dict[str, Any]) -> None:
        data = io.BytesIO()
        torch.save(state, data)
        self._s3.put_object(Bucket=self._bucket, Key=self._key, Body=data.getvalue())


def main(steps: int) -> None:
    signals: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: signals.append(number))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    rank, world = dist.get_rank(), dist.get_world_size()

    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1)).double().to(device)
    model = DistributedDataParallel(layers)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    # Each rank draws its own batches; the state of its generator is part of the checkpoint.
    batches = torch.Generator().manual_seed(rank)
    checkpoint, step = Checkpoint(os.environ["PROVISION_CHECKPOINT"]), 0
    if state := checkpoint.load(device):
        step = state["step"]
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        batches.set_state(state["batches"][rank].cpu())
    if rank == 0:
        print(f"begins at step {step} with {world} ranks", flush=True)

    stopped = False
    while step < steps and not stopped:
        inputs = torch.rand(32, 8, dtype=torch.float64, generator=batches).to(device)
        loss = nn.functional.mse_loss(model(inputs), inputs.sum(1, keepdim=True).sin())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        # All ranks decide together whether to stop: a rank that stopped alone would leave the others waiting for it.
        sums = torch.tensor([loss.item() / world, bool(signals)], dtype=torch.float64, device=device)
        dist.all_reduce(sums)
        stopped = sums[1].item() > 0
        if rank == 0:
            print(f"step {step}: loss {sums[0].item():.17g}", flush=True)
        if stopped or step % SAVE_EVERY == 0 or step == steps:
            own = batches.get_state().to(device)
            states = [torch.empty_like(own) for _ in range(world)]
            dist.all_gather(states, own)
            if rank == 0:
                saved = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
                checkpoint.save({**saved, "step": step, "batches": states})
            # No rank may end before the checkpoint is in the bucket.
            dist.barrier()
        time.sleep(float(os.environ.get("PAUSE", "0")))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)

"""Sum a number over several machines with JAX: the smallest program that needs all of them.

    python train_jax.py

Needs jax. Each process gives JAX the address of rank 0, the number of processes and its own rank.
"""

import os

import jax
import jax.numpy as jnp
from jax.experimental import multihost_utils


def main() -> None:
    jax.distributed.initialize(
        coordinator_address=f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}",
        num_processes=int(os.environ["PROVISION_SCALE"]),
        process_id=int(os.environ["PROVISION_RANK"]),
    )
    ranks = multihost_utils.process_allgather(jnp.array(jax.process_index()))
    print(f"process {jax.process_index()} of {jax.process_count()}: the ranks add up to {int(ranks.sum())}", flush=True)


if __name__ == "__main__":
    main()

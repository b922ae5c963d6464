"""Snakemake that looks at its Slurm jobs every second: ``python tests/slurm/fastpoll.py --profile slurm ...``.

For tests only. The plugin looks after 40 s first, and then ever more rarely up to every 180 s, for which a cluster is
thankful.
"""

from __future__ import annotations

import asyncio

from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor


async def sleep(executor: RemoteExecutor) -> None:
    """Wait for a second, whatever the executor had in mind."""
    await asyncio.sleep(1)


RemoteExecutor.sleep = sleep

if __name__ == "__main__":
    main()

"""A private Slurm on this machine, for tests: one node, in a folder of its own, on ports of its own.

Debian's packages ``munge``, ``slurmctld``, ``slurmd`` and ``slurm-client`` must be installed.
Nothing outside the folder is read or written, no service is touched, and only daemons started here are stopped: they
are children of this process and die with it. Works as root and as an ordinary user.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
CLIENTS = ("srun", "sbatch", "squeue", "scancel", "scontrol", "sinfo", "sacct")
NODE = "rig"
CONF = """\
ClusterName=rig
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmUser={user}
SlurmdUser={user}
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.log
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
AuthType=auth/munge
AuthInfo=socket={root}/munge.socket
CredType=cred/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
MpiDefault=none
SwitchType=switch/none
AccountingStorageType=accounting_storage/none
# No cgroups: processes of a job are known by their process group.
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SlurmdParameters=config_overrides
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
# Finished jobs stay visible to squeue for so many seconds.
MinJobAge=300
# Quick, where a cluster takes its time.
SchedulerParameters=bf_interval=1,sched_interval=1,sched_min_interval=0,batch_sched_delay=0
KillWait=2
CompleteWait=0
Waittime=0
NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={node_port} CPUs=4 RealMemory=16000 Gres=gpu:1
PartitionName=all Nodes={node} Default=YES DefaultTime=5 MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """Names of the programs that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name, path=_search()) is None]


@contextlib.contextmanager
def slurm(root: Path) -> Iterator[dict[str, str]]:
    """Run a cluster in ``root``, an empty folder with a short name for the sockets; yields an environment."""
    _configure(root)
    daemons: list[subprocess.Popen] = []
    environment = {**os.environ, "PATH": f"{root}/bin:{_search()}"}

    def start(*command: str) -> None:
        with (root / f"{command[0]}.out").open("w") as out:
            streams = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": subprocess.STDOUT}
            daemons.append(
                subprocess.Popen(
                    command, env=environment, preexec_fn=_die_with_parent, start_new_session=True, **streams
                )
            )

    def succeeds(*command: str) -> bool:
        return subprocess.run(command, env=environment, capture_output=True, timeout=10).returncode == 0

    try:
        sockets = [f"--{name}={root}/munge.{name}" for name in ("socket", "pid-file", "log-file", "seed-file")]
        start("munged", "--foreground", "--force", f"--key-file={root}/munge.key", *sockets)
        wait_for(lambda: succeeds("munge", "-S", f"{root}/munge.socket", "-n"), "munged", 10)
        start("slurmctld", "-D", "-f", f"{root}/slurm.conf")
        start("slurmd", "-D", "-N", NODE, "-f", f"{root}/slurm.conf")
        wait_for(lambda: "idle" in ask(environment, "sinfo", "-h", "-o", "%T"), "the node to be idle", 30)
        yield environment
    finally:
        if len(daemons) == 3:
            subprocess.run(["scancel", "--partition=all"], env=environment, capture_output=True, timeout=10)
            with contextlib.suppress(TimeoutError):
                wait_for(lambda: not ask(environment, "squeue", "-h"), "the jobs to end", 10)
        for daemon in reversed(daemons):
            _stop(daemon)


def ask(environment: dict[str, str], *command: str, folder: Path | None = None) -> str:
    """Return what a command prints, '' where it fails."""
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    return done.stdout.strip() if done.returncode == 0 else ""


def wait_for(is_so: Callable[[], object], what: str, seconds: float) -> None:
    """Return when ``is_so()`` is; raises :class:`TimeoutError` naming ``what``."""
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} s for {what}")
        time.sleep(0.1)


def _configure(root: Path) -> None:
    """Write the key, ``slurm.conf`` and the clients."""
    for name in ("bin", "state", "spool"):
        (root / name).mkdir()
    key = root / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    ctld_port, node_port = _free_ports(2)
    values = {"host": socket.gethostname().partition(".")[0], "user": pwd.getpwuid(os.getuid()).pw_name, "node": NODE}
    (root / "slurm.conf").write_text(CONF.format(root=root, ctld_port=ctld_port, node_port=node_port, **values))
    (root / "nvidia0").symlink_to("/dev/null")  # a GPU must be some device
    (root / "gres.conf").write_text(f"NodeName={NODE} Name=gpu File={root}/nvidia0\n")
    (root / "cgroup.conf").touch()
    # SLURM_CONF in the environment is not enough: Snakemake's job step drops all of SLURM_* before it calls srun.
    for name in CLIENTS:
        client = root / "bin" / name
        client.write_text(f'#!/bin/sh\nSLURM_CONF={root}/slurm.conf exec {shutil.which(name, path=_search())} "$@"\n')
        client.chmod(0o755)


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _search() -> str:
    """Where programs are looked for: daemons are not on an ordinary user's PATH."""
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _stop(daemon: subprocess.Popen, signals: Sequence[int] = (signal.SIGTERM, signal.SIGKILL)) -> None:
    for number in signals:
        daemon.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            daemon.wait(10)
            return

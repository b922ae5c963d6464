"""Start a stage from a process that has the big libraries loaded: ``python -m dart.warm dart.stages.NAME ...``.

Importing torch, transformers, TRL and lm-eval costs about ten seconds of CPU a process, more than many stages compute.
A small server imports them once and forks a child for every request; the child runs the module as ``python -m`` would,
with the caller's arguments, folder, environment and standard streams. Only third-party libraries are preloaded, never
this repository's modules, so edited code is always what runs. A server serves one Python, one repository, one user and
one environment (libraries read variables when they are imported) and leaves after a minute without work.

A child never outlives its caller or its server, so that no second writer can appear in a scratch folder: the server
kills the child of a client that is gone, and the kernel kills the children of a server that is gone. Where a server
cannot be had (not Linux, a library that starts threads when imported) the module is run as ``python -m`` runs it.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path

from dart.warm_server import FORKED, LENGTH, LOST

# Arrow's allocator would start a thread, and a fork copies only the thread that calls it.
PRELOAD_ENVIRONMENT = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}
# Differ from shell to shell without any library caring.
VOLATILE = frozenset({"_", "OLDPWD", "PWD", "SHLVL"})


def command(usual: str = "python -m dart.warm") -> str:
    """The command line that the rules put before a module's name; ``DART_LAUNCH`` ("python -m", say) replaces it.

    It says plain ``python``, for a rule's own environment to supply; without one that is the Python running now.
    """
    folders = [str(Path(sys.executable).parent), *os.environ.get("PATH", "").split(os.pathsep)]
    os.environ["PATH"] = os.pathsep.join(dict.fromkeys(folders))
    return os.environ.get("DART_LAUNCH", usual)


def main(argv: Sequence[str]) -> int:
    """Run ``argv`` (module and arguments) through the server and return its exit status."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # no folder for the socket, or a path too long for one
            for _ in range(2):  # the server may leave, or be killed, while we connect
                status = _ask(argv)
                if status is not None:
                    return status
    os.execv(sys.executable, [sys.executable, "-m", *argv])


def _ask(argv: Sequence[str]) -> int | None:
    """Exit status of the module run by the server, or None when no child was started."""
    request = {"argv": list(argv), "cwd": os.getcwd(), "env": dict(os.environ), "umask": _umask()}
    body = json.dumps(request).encode()
    with _connect() as server:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            # The server sees the end of our messages, kills the child, and tells us its status when it is dead.
            signal.signal(number, lambda *_: server.shutdown(socket.SHUT_WR))
        streams = array.array("i", [0, 1, 2])
        try:
            sent = server.sendmsg([LENGTH.pack(len(body)), body], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
            server.sendall((LENGTH.pack(len(body)) + body)[sent:])
            if server.recv(1) != FORKED:
                return None
            answer = server.recv(LENGTH.size)
        except ConnectionError:
            return None
    if len(answer) < LENGTH.size:
        print("The process that ran this stage was killed together with its server; run it again.", file=sys.stderr)
        return LOST
    return LENGTH.unpack(answer)[0]


def _connect() -> socket.socket:
    """Connect to this environment's server, starting it when there is none."""
    path = _folder() / _key()
    if path.with_suffix(".cold").exists():  # a server could not be had
        raise OSError(f"{path} cannot be served")
    with contextlib.suppress(OSError):
        return _dial(path)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with contextlib.suppress(OSError):  # another client was faster
            return _dial(path)
        path.unlink(missing_ok=True)
        # The socket is bound here and handed over, so that we can queue at it while the server still imports.
        with socket.socket(socket.AF_UNIX) as listener, path.with_suffix(".log").open("w") as log:
            listener.bind(str(path))
            listener.listen(64)
            command = [sys.executable, "-m", "dart.warm_server", "--serve", str(listener.fileno()), str(path)]
            subprocess.Popen(
                command,
                pass_fds=[listener.fileno()],
                env=dict(os.environ) | PRELOAD_ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal is for the clients
            )
        return _dial(path)


def _dial(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    try:
        client.connect(str(path))
    except OSError:
        client.close()
        raise
    return client


def _folder() -> Path:
    """A folder that only this user may enter."""
    folder = Path(tempfile.gettempdir()) / f"dart-warm-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    facts = folder.lstat()
    if facts.st_uid != os.getuid() or facts.st_mode & 0o077:
        raise PermissionError(f"{folder} is open to others")
    return folder


def _key() -> str:
    """Names the server: interpreter and its packages, repository, and the environment libraries may read."""
    packages = sysconfig.get_paths()["purelib"]
    env = sorted((name, value) for name, value in os.environ.items() if name not in VOLATILE)
    server = Path(__file__).with_name("warm_server.py")
    facts = [sys.executable, packages, os.stat(packages).st_mtime_ns, str(server), server.stat().st_mtime_ns, env]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

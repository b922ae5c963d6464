"""The server behind ``dart.warm``, and how a module is run in one of its children: ``--serve DESCRIPTOR PATH``."""

from __future__ import annotations

import array
import atexit
import contextlib
import ctypes
import fcntl
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import struct
import sys
import threading
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

# What the stages and the analysis import. A library that is not installed is skipped.
PRELOAD = (
    "numpy",
    "pandas",
    "pyarrow.parquet",
    "torch",
    "torch._dynamo",
    "datasets",
    "transformers",
    "transformers.models.qwen3.modeling_qwen3",
    "accelerate",
    "trl.trainer.grpo_trainer",
    "trl.trainer.sft_trainer",
    "wandb.sdk.launch",  # imported by wandb.init
    "lm_eval.evaluator",
    "pydantic",
    "yaml",
    "matplotlib.pyplot",
)
IDLE_SECONDS = 60.0
FORKED = b"F"
LENGTH = struct.Struct("!I")
LOST = 70  # exit status (EX_SOFTWARE) when the server was killed, and the child with it


@dataclass
class Request:
    """A module to run for a client: what ``python -m`` would have seen."""

    argv: list[str]
    cwd: str
    env: dict[str, str]
    umask: int
    streams: list[int] = field(default_factory=list)


class Server:
    """Forks a child for every request and tells each client its child's exit status."""

    def __init__(self, listener: socket.socket, path: Path) -> None:
        self.listener = listener
        self.path = path
        self.clients: dict[int, socket.socket] = {}  # child's pid -> its client
        self.selector = selectors.DefaultSelector()
        self.alarm, self.wake = os.pipe()  # a child's end writes to it, so that select returns
        for end in (self.alarm, self.wake):
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.wake)
        self.selector.register(self.alarm, selectors.EVENT_READ)
        self.selector.register(listener, selectors.EVENT_READ)

    def serve(self) -> Request | None:
        """Serve until idle; returns the request in a forked child, None in the server."""
        while True:
            ready = [key.fileobj for key, _ in self.selector.select(None if self.clients else IDLE_SECONDS)]
            if not ready and self._retire():
                return None
            for source in ready:
                if source is self.alarm:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self.alarm, 4096)
                elif source is self.listener:
                    request = self._accept()
                    if request is not None:
                        return request
                else:
                    self._kill_child_of(source)  # type: ignore[arg-type]  # a client's socket
            self._reap()

    def _retire(self) -> bool:
        """Take the socket away; False when a client had slipped in."""
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            waiting = bool(self.selector.select(0))
            if not waiting:
                self.path.unlink(missing_ok=True)
                self.path.with_suffix(".log").unlink(missing_ok=True)
        return not waiting

    def _accept(self) -> Request | None:
        client, _ = self.listener.accept()
        server = os.getpid()
        try:
            request = _receive(client)
            pid = os.fork() if request else None
        except (OSError, ValueError):
            client.close()
            return None
        if pid is None:
            client.close()
        elif pid == 0:
            self._leave(client, server)
            return request
        else:
            assert request is not None  # nothing is forked without one
            for stream in request.streams:
                os.close(stream)
            self.clients[pid] = client
            self.selector.register(client, selectors.EVENT_READ)
            with contextlib.suppress(OSError):
                client.sendall(FORKED)
        return None

    def _leave(self, client: socket.socket, server: int) -> None:
        """In the child: its own process group, none of the server's sockets, and death when the server dies."""
        os.setsid()
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != server:
            os._exit(LOST)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for one in (client, self.listener, *self.clients.values()):
            one.close()
        os.close(self.alarm)
        os.close(self.wake)
        self.selector.close()

    def _kill_child_of(self, client: socket.socket) -> None:
        """The client is gone or was told to stop."""
        self.selector.unregister(client)
        for pid, one in self.clients.items():
            if one is client:
                _kill_group(pid)
                os.kill(pid, signal.SIGKILL)  # it may not lead its group yet; it is not reaped, so it is still ours

    def _reap(self) -> None:
        for pid in list(self.clients):
            done, status = os.waitpid(pid, os.WNOHANG)
            if not done:
                continue
            _kill_group(pid)  # what the child left behind
            client = self.clients.pop(pid)
            with contextlib.suppress(KeyError):
                self.selector.unregister(client)
            code = os.waitstatus_to_exitcode(status)
            with contextlib.suppress(OSError):
                client.sendall(LENGTH.pack(code if code >= 0 else 128 - code))
            client.close()


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _receive(client: socket.socket) -> Request | None:
    """Read one request with its three streams; None for a client that left."""
    client.settimeout(10.0)
    head, ancillary, _, _ = client.recvmsg(LENGTH.size, socket.CMSG_SPACE(3 * array.array("i").itemsize))
    streams = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            streams.frombytes(data)
    if len(head) < LENGTH.size:
        return None
    body = b""
    size = LENGTH.unpack(head)[0]
    while len(body) < size:
        part = client.recv(size - len(body))
        if not part:
            return None
        body += part
    client.settimeout(None)
    return Request(**json.loads(body), streams=list(streams))


def serve(descriptor: int, path: Path) -> int:
    """Preload, serve until idle; in a forked child, become the module that was asked for."""
    for name in PRELOAD:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    if len(os.listdir("/proc/self/task")) > 1:  # a child would lack the other threads, and any lock they hold
        print("A preloaded library has started a thread: not serving.", file=sys.stderr)
        path.rename(path.with_suffix(".cold"))
        return 1
    gc.collect()
    gc.freeze()  # collections in children would copy pages that they share
    request = Server(socket.socket(fileno=descriptor), path).serve()
    if request:
        leave(become(request))
    return 0


def become(request: Request) -> int:
    """Run the request's module as the main program of this process; returns its exit status."""
    for number, stream in enumerate(request.streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(request.cwd)
    os.umask(request.umask)
    os.environ.clear()
    os.environ.update(request.env)
    sys.stdout.reconfigure(line_buffering=sys.stdout.isatty())  # type: ignore[union-attr]
    for name in [name for name in sys.modules if name == "dart" or name.startswith("dart.")]:
        del sys.modules[name]
    sys.path[0] = request.cwd
    return run_module(request.argv)


def run_module(argv: list[str]) -> int:
    """Run a module as ``python -m`` does and return the status that it leaves with."""
    sys.argv = argv
    try:
        runpy.run_module(argv[0], run_name="__main__", alter_sys=True)
    except SystemExit as leaving:
        if isinstance(leaving.code, str):
            print(leaving.code, file=sys.stderr)
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def leave(status: int) -> NoReturn:
    """Leave as the interpreter would, but for taking the preloaded modules apart, which costs most of a second."""
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, those of executors included
    atexit._run_exitfuncs()
    gc.collect()  # closes files in cycles
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status & 0xFF)


if __name__ == "__main__":
    sys.exit(serve(int(sys.argv[2]), Path(sys.argv[3])))

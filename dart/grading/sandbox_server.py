"""The sandbox's child process: forks once a program and runs it under limits, Landlock and seccomp.

Run by path with the standard library only (``dart.grading.sandbox`` starts it): a JSON request on stdin, a JSON answer
on stdout. Sources: linux/seccomp.h, linux/landlock.h, linux/filter.h, arch/*/syscall tables.
"""

from __future__ import annotations

import ctypes
import errno
import importlib
import json
import os
import platform
import random
import resource
import select
import signal
import struct
import sys
import sysconfig
import time
from contextlib import suppress

PRELOAD = (  # names as one text, or the formatter would give each its own line
    "_socket array base64 bisect calendar cmath collections.abc copy dataclasses datetime decimal enum fractions "
    "functools hashlib heapq itertools math numbers operator queue random re statistics string struct textwrap "
    "threading traceback types typing unicodedata"
)
READABLE = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/usr/share/zoneinfo", "/dev/urandom")

# Allowed calls and their numbers (x86_64, aarch64); None where the architecture lacks the call.
CALLS: dict[str, tuple[int | None, int | None]] = {
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "stat": (4, None), "fstat": (5, 80), "lstat": (6, None),
    "lseek": (8, 62), "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215), "brk": (12, 214),
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "pread64": (17, 67),
    "readv": (19, 65), "writev": (20, 66), "access": (21, None), "sched_yield": (24, 124), "mremap": (25, 216),
    "madvise": (28, 233), "nanosleep": (35, 101), "getpid": (39, 172), "exit": (60, 93), "uname": (63, 160),
    "getcwd": (79, 17), "readlink": (89, None), "gettimeofday": (96, 169), "getrusage": (98, 165),
    "sysinfo": (99, 179), "times": (100, 153), "getuid": (102, 174), "getgid": (104, 176), "geteuid": (107, 175),
    "getegid": (108, 177), "getppid": (110, 173), "sigaltstack": (131, 132), "gettid": (186, 178), "time": (201, None),
    "futex": (202, 98), "sched_getaffinity": (204, 123), "getdents64": (217, 61), "restart_syscall": (219, 128),
    "clock_gettime": (228, 113), "clock_getres": (229, 114), "clock_nanosleep": (230, 115), "exit_group": (231, 94),
    "newfstatat": (262, 79), "readlinkat": (267, 78), "faccessat": (269, 48), "getrandom": (318, 278),
    "statx": (332, 291), "rseq": (334, 293),
}  # fmt: skip
OPENING = {"open": ((2, None), 1), "openat": ((257, 56), 2)}  # numbers, and which argument holds the flags
WRITING = 0o3 | 0o100 | 0o1000 | 0o2000 | 0o20000000  # O_ACCMODE, O_CREAT, O_TRUNC, O_APPEND, __O_TMPFILE
ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, AUDIT_ARCH
LOAD, EQUAL, ANY_BIT, RETURN = 0x20, 0x15, 0x45, 0x06  # BPF: ld abs word, jeq, jset, ret
ALLOWED, REFUSED = 0x7FFF0000, 0x00050000 | errno.EPERM
READ_FILE, READ_DIR = 1 << 2, 1 << 3  # Landlock rights


class SockFprog(ctypes.Structure):
    """``struct sock_fprog``."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def seccomp_filter(files: bool) -> bytes:
    """Return the BPF program: the calls above, and opening for reading only (or not at all without ``files``)."""
    column, audit = ARCHITECTURES[platform.machine()]
    code = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, audit), (RETURN, 0, 0, REFUSED), (LOAD, 0, 0, 0)]
    for numbers in CALLS.values():
        number = numbers[column]
        if number is not None:
            code += [(EQUAL, 0, 1, number), (RETURN, 0, 0, ALLOWED)]
    for numbers, argument in OPENING.values() if files else ():
        number = numbers[column]
        if number is not None:
            code += [(EQUAL, 0, 4, number), (LOAD, 0, 0, 16 + 8 * argument), (ANY_BIT, 0, 1, WRITING)]
            code += [(RETURN, 0, 0, REFUSED), (RETURN, 0, 0, ALLOWED)]
    code.append((RETURN, 0, 0, REFUSED))
    return b"".join(struct.pack("HBBI", *one) for one in code)


class Isolation:
    """Landlock's rule set and seccomp's filter, made once and applied in each child."""

    def __init__(self) -> None:
        if sys.platform != "linux" or platform.machine() not in ARCHITECTURES:
            raise OSError(errno.ENOSYS, f"no filter is known for {sys.platform} on {platform.machine()}")
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.rules = self._landlock_rules()
        program = seccomp_filter(files=self.rules is not None)
        self.buffer = ctypes.create_string_buffer(program, len(program))
        self.program = SockFprog(len(program) // 8, ctypes.addressof(self.buffer))
        self.name = "seccomp, no files" if self.rules is None else "seccomp and landlock"

    def apply(self) -> None:
        """Isolate this process for good; raises OSError where the kernel refuses."""
        self._call("prctl", 38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
        if self.rules is not None:
            self._call("syscall", 446, self.rules, 0)  # landlock_restrict_self
        self._call("prctl", 22, 2, ctypes.addressof(self.program), 0, 0)  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER

    def die_with_parent(self) -> None:
        """Let the kernel kill this process when its parent is gone."""
        self._call("prctl", 1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG

    def _call(self, function: str, *arguments: int) -> int:
        found = getattr(self.libc, function)(*(ctypes.c_ulong(argument) for argument in arguments))
        if found < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"{function}: {os.strerror(number)}")
        return found

    def _landlock_rules(self) -> int | None:
        """A rule set that allows reading Python and its libraries and nothing else; None without Landlock."""
        try:
            version = self._call("syscall", 444, 0, 0, 1)  # landlock_create_ruleset, LANDLOCK_CREATE_RULESET_VERSION
        except OSError:
            return None
        rights = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)) - 1  # file system rights known to the version
        handled = ctypes.create_string_buffer(struct.pack("Q", rights), 8)
        rules = self._call("syscall", 444, ctypes.addressof(handled), 8, 0)
        for path in (*READABLE, *{sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}):
            with suppress(FileNotFoundError):
                place = os.open(path, os.O_PATH | os.O_CLOEXEC)
                allowed = READ_FILE | READ_DIR if os.path.isdir(path) else READ_FILE
                beneath = ctypes.create_string_buffer(struct.pack("=Qi", allowed, place), 12)
                self._call("syscall", 445, rules, 1, ctypes.addressof(beneath), 0)  # landlock_add_rule, PATH_BENEATH
                os.close(place)
        return rules


def limit(limits: dict) -> None:
    """Bound this process; the hard limit on processor time kills what ignores the soft one."""
    cpu = limits["cpu_seconds"]
    wanted = {
        resource.RLIMIT_CPU: (cpu, cpu + 1),
        resource.RLIMIT_AS: (limits["memory_bytes"],) * 2,
        resource.RLIMIT_FSIZE: (0, 0),
        resource.RLIMIT_CORE: (0, 0),
        resource.RLIMIT_NOFILE: (limits["open_files"],) * 2,
    }
    for name, values in wanted.items():
        try:
            resource.setrlimit(name, values)
        except (ValueError, OSError):
            if sys.platform == "linux":  # macOS knows no limit on address space
                raise


def execute(source: str, tests: str) -> str | None:
    """Run a program and its tests; returns None when all pass, else what went wrong."""
    space: dict = {"__name__": "program", "__builtins__": __builtins__}
    call = exec  # and both are compiled before either runs: a program can replace what builtins holds
    try:
        codes = [compile(text, name, "exec", 0, True, 0) for text, name in ((source, "program"), (tests, "tests"))]
        for code in codes:
            call(code, space)
    except SystemExit:
        return "left before the last test"
    except BaseException as error:
        return f"{type(error).__name__}"
    return None


def run(program: tuple[str, str], limits: dict, isolation: Isolation | None) -> str:
    """Fork, run one program, and tell its outcome."""
    reader, writer = os.pipe()
    nonce = os.urandom(16)
    pid = os.fork()
    if pid == 0:
        try:
            _child(program, limits, isolation, reader, writer, nonce)
        finally:
            os._exit(0)
    os.close(writer)
    said, in_time = _listen(reader, time.monotonic() + limits["wall_seconds"])
    os.close(reader)
    if not in_time:
        os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if said == nonce:
        return "passed"
    if not in_time or code in (-signal.SIGXCPU, -signal.SIGKILL):
        return "time limit"
    told = said[1:].decode(errors="replace") if said[:1] == b"!" else ""
    # Only the nonce is a pass, whatever a program calls its exception or writes into the pipe.
    return told if told and told != "passed" else f"ended without passing (status {code})"


def _child(
    program: tuple[str, str], limits: dict, isolation: Isolation | None, reader: int, writer: int, nonce: bytes
) -> None:
    os.close(reader)
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    random.seed(0)
    try:
        if isolation is not None:
            isolation.die_with_parent()
        limit(limits)
        if isolation is not None:
            isolation.apply()
    except OSError as error:
        os.write(writer, f"!isolation failed: {error}".encode())
        return
    said = execute(*program)
    os.write(writer, nonce if said is None else b"!" + said.encode()[:200])


def _listen(reader: int, deadline: float) -> tuple[bytes, bool]:
    """Read until the child ends (at most 4096 bytes are kept); False when the deadline came first."""
    said = b""
    while select.select([reader], [], [], max(0.0, deadline - time.monotonic()))[0]:
        part = os.read(reader, 4096)
        if not part:
            return said, True
        said = (said + part)[:4096]
    return said, False


PROBES = (
    "import os\nos.fork()",
    "import _socket\n_socket.socket()",
    "open('probe', 'w')",
    "open('/proc/self/environ')",
    "import os\nos.kill(os.getpid(), 0)",
)


def working_isolation(limits: dict) -> tuple[Isolation | None, str]:
    """Return the isolation after seeing it refuse what it must, or None and why."""
    try:
        isolation = Isolation()
    except OSError as error:
        return None, str(error)
    for probe in PROBES:
        said = run((probe, ""), limits, isolation)
        if said != "PermissionError":
            return None, f"`{probe.splitlines()[-1]}` was answered by: {said}"
    return isolation, ""


def main() -> int:
    """Serve one request."""
    request = json.load(sys.stdin)
    sys.dont_write_bytecode = True
    for name in PRELOAD.split():
        importlib.import_module(name)
    limits = request["limits"]
    isolation, why = working_isolation(limits)
    reasons = []
    if isolation is not None or request["unisolated"]:
        reasons = [run(tuple(program), limits, isolation) for program in request["programs"]]
    name = "none" if isolation is None else isolation.name
    json.dump({"isolation": name, "why": why, "reasons": reasons}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())

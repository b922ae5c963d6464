"""Model-written programs: what passes, what fails, what is refused to them, and that nothing of them is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dart.errors import UserError
from dart.grading import sandbox
from dart.grading.sandbox import Limits, Outcome, Program, run_programs

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is made of Linux's seccomp")
RIGHT = "def f(x):\n    return x + 1\n"
WRONG = "def f(x):\n    return 0\n"
TESTS = "assert f(1) == 2\nassert f(5) == 6"
SHORT = Limits(cpu_seconds=1, wall_seconds=2.5)


def outcome(source: str, tests: str = TESTS, limits: Limits = SHORT) -> Outcome:
    (found,) = run_programs([Program(source, tests)], limits)
    return found


def session(leader: int) -> list[int]:
    """Processes of a session that are alive."""
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, owner, *_ = place.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(owner) == leader and state not in "ZX":
            found.append(int(place.parent.name))
    return found


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def altered_server(folder: Path, change: str) -> Path:
    """A server that runs after ``change`` was made to its module ``s``."""
    path = folder / "server.py"
    path.write_text(
        f"import sys\nsys.path.insert(0, {str(sandbox.SERVER.parent)!r})\nimport sandbox_server as s\nsys.path.pop(0)\n"
        f"{change}\nsys.exit(s.main())\n",
        encoding="utf-8",
    )
    return path


def test_outcomes_keep_the_order_of_the_programs() -> None:
    sources = [RIGHT, WRONG, "def f(x) return", RIGHT, "", "1 / 0", RIGHT]
    found = run_programs([Program(source, TESTS) for source in sources])
    wanted = ["passed", "AssertionError", "SyntaxError", "passed", "NameError", "ZeroDivisionError", "passed"]
    assert [one.reason for one in found] == wanted
    assert [one.passed for one in found] == [reason == "passed" for reason in wanted]
    assert run_programs([]) == []


@pytest.mark.parametrize(
    "extra",
    [
        "print('x' * 10)",
        "import math, re, itertools, collections, heapq, functools",
        "import json",  # not preloaded: read from the standard library
        "import random; assert 0 <= random.random() < 1",
        "table = [0] * 1_000_000",
    ],
)
def test_honest_programs_pass(extra: str) -> None:
    assert outcome(f"{extra}\n{RIGHT}") == Outcome(True, "passed")


CHEATS = {
    "leaves before the tests": "import os; os._exit(0)",
    "leaves by sys.exit": "import sys; sys.exit(0)",
    "leaves in the tested function": "def f(x):\n    import os\n    os._exit(0)",
    "another assertion error": f"import builtins\nbuiltins.AssertionError = ValueError\n{WRONG}",
    "no exceptions": f"import builtins\nbuiltins.BaseException = builtins.SystemExit = ()\n{WRONG}",
    "no exec": f"import builtins\nbuiltins.exec = lambda *given: None\n{WRONG}",
    "no compile": "import builtins\nmake = builtins.compile\n"
    f"builtins.compile = lambda *given, **names: make('', 'tests', 'exec')\n{WRONG}",
    "an error called passed": "class passed(Exception): pass\nraise passed",
    "writes passed into the pipe": "import os\nfor number in range(3, 32):\n    try: os.write(number, b'passed')\n"
    "    except OSError: pass\nos._exit(0)",
    "writes it as an outcome": "import os\nfor number in range(3, 32):\n    try: os.write(number, b'!passed')\n"
    "    except OSError: pass\nos._exit(0)",
    "switches assertions off": f"__debug__ = False\n{WRONG}",
    "asserts itself": f"def assert_(*given): return True\n{WRONG}",
}


@pytest.mark.parametrize("source", CHEATS.values(), ids=CHEATS)
def test_a_program_that_is_wrong_cannot_pretend(source: str) -> None:
    assert not outcome(source).passed


REFUSED = {
    "network": "import _socket\n_socket.socket()",
    "socket module": "import socket\nsocket.create_connection(('127.0.0.1', 9))",
    "write a file": "open('here', 'w')",
    "write elsewhere": "open('/tmp/dart-sandbox-probe', 'w')",
    "remove": "import os\nos.remove('/tmp/dart-sandbox-absent')",
    "read a secret": "open('/etc/passwd').read()",
    "read the environment": "open('/proc/self/environ').read()",
    "list a folder": "import os\nos.listdir('/')",
    "fork bomb": "import os\nfor _ in range(3): os.fork()",  # bounded by itself, should the sandbox fail
    "thread": "import threading\nthreading.Thread(target=print).start()",
    "another program": "import subprocess\nsubprocess.run(['/bin/true'])",
    "kill the parent": "import os\nos.kill(os.getppid(), 9)",
    "signal itself": "import os\nos.kill(os.getpid(), 0)",
    "shell": "import os\nif os.system('exit 7') != 7 << 8: raise PermissionError",
}


@pytest.mark.parametrize("source", REFUSED.values(), ids=REFUSED)
def test_what_reaches_out_is_refused(source: str) -> None:
    first, second = run_programs([Program(source, ""), Program(RIGHT, TESTS)], SHORT)
    assert not first.passed and first.reason in ("PermissionError", "RuntimeError", "ImportError")
    assert second.passed  # and the server goes on
    assert not Path("/tmp/dart-sandbox-probe").exists()


BUSY, IDLE = Limits(cpu_seconds=1, wall_seconds=40.0), Limits(cpu_seconds=30, wall_seconds=2.0)
SMALL = Limits(memory_bytes=192 << 20)
FLOOD = """import os
while True:
    for number in range(3, 9):
        try: os.write(number, b"x" * 4096)
        except OSError: pass"""
GREEDY = {
    "endless loop": ("while True: pass", BUSY, "time limit"),
    "endless output": ("while True: print('x' * 1000)", BUSY, "time limit"),
    "deaf to the soft limit": ("import signal\nsignal.signal(24, print)\nwhile True: pass", BUSY, "time limit"),
    "flood of the pipe": (FLOOD, BUSY, "time limit"),
    "sleep": ("import time\ntime.sleep(60)", IDLE, "time limit"),
    "memory at once": ("x = bytearray(1 << 30)", SMALL, "MemoryError"),
    "memory bomb": ("x = []\nwhile True: x.append(bytearray(1 << 22))", SMALL, "MemoryError"),
    "endless recursion": ("def f(x): return f(x)", SMALL, "RecursionError"),
}


@pytest.mark.parametrize(("source", "limits", "reason"), GREEDY.values(), ids=GREEDY)
def test_time_and_memory_are_bounded(source: str, limits: Limits, reason: str) -> None:
    started = time.monotonic()
    found = run_programs([Program(source, TESTS), Program(RIGHT, TESTS)], limits)
    assert found == [Outcome(False, reason), Outcome(True, "passed")]
    assert time.monotonic() - started < 35  # of processor time, not at the wall clock's limit


def test_programs_do_not_see_each_other_and_sets_have_one_order() -> None:
    leaks = "import builtins, math\nbuiltins.len = lambda x: 7\nmath.pi = 3\ng = 1"
    clean = "import math\nassert len([]) == 0 and math.pi > 3.1 and 'g' not in globals()"
    order = "raise type(''.join(set('abcdefgh')), (Exception,), {})"
    found = run_programs([Program(one, "") for one in (leaks, clean, order, order)])
    assert [one.reason for one in found[:2]] == ["passed", "passed"]
    assert found[2] == found[3] == outcome(order, "")


def test_a_server_that_hangs_is_ended_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    orphans_live = "s.Isolation.die_with_parent = lambda self: None"
    monkeypatch.setattr(sandbox, "SERVER", altered_server(tmp_path, orphans_live))
    monkeypatch.setattr(sandbox, "START_SECONDS", -27.0)  # so that four seconds are left for the request
    killed: list[tuple[int, int]] = []
    kill = os.killpg

    def recorded(group: int, number: int) -> None:
        killed.append((group, len(session(group))))
        kill(group, number)

    monkeypatch.setattr(os, "killpg", recorded)
    with pytest.raises(subprocess.TimeoutExpired):
        run_programs([Program("import time\ntime.sleep(60)", "")], Limits(wall_seconds=30.0))
    ((server, processes),) = killed
    assert processes == 2 and wait_for(lambda: not session(server))


def test_a_killed_server_takes_the_running_program_along(tmp_path: Path) -> None:
    request = tmp_path / "request.json"
    limits = {"cpu_seconds": 60, "wall_seconds": 60, "memory_bytes": 1 << 29, "open_files": 32}
    program = ["import time\ntime.sleep(60)", ""]
    request.write_text(json.dumps({"programs": [program], "limits": limits, "unisolated": False}), encoding="utf-8")
    command = [sys.executable, "-s", "-S", "-P", str(sandbox.SERVER)]
    with (
        request.open() as file,
        subprocess.Popen(command, stdin=file, stdout=subprocess.PIPE, start_new_session=True) as server,
    ):

        def settled() -> bool:
            """Whether one child lives on: the program, no probe of the isolation."""
            first = session(server.pid)
            time.sleep(0.5)
            return len(first) == 2 and session(server.pid) == first

        assert wait_for(settled)
        os.kill(server.pid, signal.SIGKILL)
        assert wait_for(lambda: not session(server.pid))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("def missing(self): raise OSError(38, 'no filter is known')\ns.Isolation.__init__ = missing", "no filter is"),
        ("s.Isolation.apply = lambda self: None", "was answered by"),  # a kernel that accepts and does nothing
        ("s.CALLS['kill'] = (62, 129)\ns.CALLS['tgkill'] = (234, 131)", "os.kill"),
        ("def refuse(self): raise OSError(22, 'seccomp')\ns.Isolation.apply = refuse", "isolation failed"),
    ],
)
def test_without_isolation_nothing_runs_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, why: str
) -> None:
    monkeypatch.delenv(sandbox.ALLOW, raising=False)
    monkeypatch.setattr(sandbox, "SERVER", altered_server(tmp_path, change))
    mark = tmp_path / "mark"
    with pytest.raises(UserError, match="This machine cannot isolate model-written programs") as caught:
        outcome(f"open({str(mark)!r}, 'w')", "")
    assert why in str(caught.value) and "or set DART_ALLOW_UNSANDBOXED=1" in str(caught.value)
    assert not mark.exists() and sandbox.isolation() == "none"
    monkeypatch.setenv(sandbox.ALLOW, "1")
    found = run_programs([Program(f"open({str(mark)!r}, 'w')\n{RIGHT}", TESTS), Program("x = bytearray(1 << 30)", "")])
    assert [one.reason for one in found] == ["passed", "MemoryError"] and mark.exists()  # the limits still apply


def test_without_landlock_no_file_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change = "s.Isolation._landlock_rules = lambda self: None"
    monkeypatch.setattr(sandbox, "SERVER", altered_server(tmp_path, change))
    sources = [RIGHT, "import math, re, heapq", f"open({sandbox.SERVER.as_posix()!r})"]
    assert [outcome(source, "").reason for source in sources] == ["passed", "passed", "PermissionError"]
    assert sandbox.isolation() == "seccomp, no files"


def test_a_server_that_breaks_is_no_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "SERVER", altered_server(tmp_path, "raise RuntimeError('broken')"))
    with pytest.raises(RuntimeError, match="ended with status 1"):
        outcome(RIGHT)

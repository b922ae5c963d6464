"""The fork server: what a stage sees, and that no child outlives its caller or its server."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks on Linux only")

PROBE = """
import os, signal, subprocess, sys, time
what = sys.argv[1]
if what == "show":
    print(sys.argv[1:], os.getcwd(), os.environ["COLOUR"], sys.stdin.read(), __name__)
    print("to stderr", file=sys.stderr)
    print("torch" in sys.modules, open(f"/proc/{os.getppid()}/cmdline").read().split(chr(0))[1:4])
elif what == "exit":
    sys.exit(int(sys.argv[2]))
elif what == "say":
    import atexit, threading
    atexit.register(print, "at exit")
    threading.Thread(target=lambda: (time.sleep(0.2), print("thread"))).start()
    left_open = open(sys.argv[2], "w")
    left_open.write("kept")
    sys.exit("a sentence")
elif what == "raise":
    raise RuntimeError("on purpose")
elif what == "die":
    os.kill(os.getpid(), signal.SIGKILL)
elif what == "sleep":
    child = subprocess.Popen(["sleep", "600"])
    print(os.getpid(), child.pid, flush=True)
    time.sleep(600)
elif what == "meet":  # returns only when its partner runs at the same time
    me, other = sys.argv[2:]
    open(me, "w").close()
    while not os.path.exists(other):
        time.sleep(0.01)
elif what == "train":
    import hashlib, torch
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.GELU(), torch.nn.Linear(64, 8))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(20):
        optimizer.zero_grad()
        model(torch.randn(32, 64)).square().mean().backward()
        optimizer.step()
    weights = b"".join(weight.detach().numpy().tobytes() for weight in model.parameters())
    print(torch.get_num_threads(), hashlib.sha256(weights).hexdigest())
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the probe module, and the environment of the clients; their server leaves when the tests end."""
    folder = tmp_path_factory.mktemp("w")
    (folder / "probe.py").write_text(PROBE)
    env = {**os.environ, "TMPDIR": str(folder), "COLOUR": "green", "OMP_NUM_THREADS": "1"}
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(folder)])
    yield folder, env
    for pid in servers(folder):
        os.kill(pid, signal.SIGKILL)


def command(*arguments: str, start: str = "dart.warm") -> list[str]:
    return [sys.executable, "-m", *([start] if start else []), "probe", *arguments]


def run(place, *arguments: str, **options) -> subprocess.CompletedProcess:
    folder, env = place
    return subprocess.run(
        command(*arguments), env=env, cwd=folder, capture_output=True, text=True, timeout=120, **options
    )


def servers(folder: Path) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_text().split("\0")
        except OSError:
            continue
        if "--serve" in words and str(folder) in words[words.index("--serve") + 2] and alive(int(path.parent.name)):
            found.append(int(path.parent.name))
    return [pid for pid in found if int(Path(f"/proc/{pid}/stat").read_text().split()[3]) not in found]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def gone(*pids: int) -> bool:
    for _ in range(500):
        if not any(map(alive, pids)):
            return True
        time.sleep(0.01)
    return False


def sleeper(place) -> tuple[subprocess.Popen, list[int]]:
    folder, env = place
    client = subprocess.Popen(command("sleep"), env=env, cwd=folder, stdout=subprocess.PIPE, text=True)
    return client, [int(pid) for pid in client.stdout.readline().split()]


def test_a_module_sees_what_it_would_see_on_its_own(place):
    done = run(place, "show", "--config", '{"a": 1}', input="typed")
    assert done.returncode == 0 and done.stderr == "to stderr\n"
    seen, where = done.stdout.splitlines()
    given = ["show", "--config", '{"a": 1}']
    assert seen == f"{given} {place[0]} green typed __main__"
    assert where == "True ['-m', 'dart.warm_server', '--serve']", "the module did not run in a forked child"


def test_exit_statuses(place):
    assert [run(place, "exit", status).returncode for status in ("0", "2", "5")] == [0, 2, 5]
    failed = run(place, "raise")
    assert failed.returncode == 1 and failed.stderr.splitlines()[-1] == "RuntimeError: on purpose"
    assert run(place, "die").returncode == 128 + signal.SIGKILL


def test_a_module_ends_as_it_would_on_its_own(place):
    folder, env = place
    file = folder / "kept.txt"
    for start in ("", "dart.warm"):
        arguments = command("say", str(file), start=start)
        done = subprocess.run(arguments, env=env, cwd=folder, capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (1, "thread\nat exit\n", "a sentence\n")
        assert file.read_text() == "kept"
        file.unlink()


def test_edited_code_runs(place):
    folder, env = place
    for word in ("one", "two"):
        (folder / "edited.py").write_text(f"print({word!r})")
        done = subprocess.run(
            [sys.executable, "-m", "dart.warm", "edited"], env=env, cwd=folder, capture_output=True, text=True
        )
        assert done.stdout == f"{word}\n"


def test_training_is_bit_identical_to_a_cold_process(place):
    folder, env = place
    cold = subprocess.run(command("train", start=""), env=env, cwd=folder, capture_output=True, text=True)
    warm = run(place, "train")
    assert warm.stdout == cold.stdout and warm.stdout.startswith("1 ") and not warm.returncode


def test_two_clients_at_once(place):
    folder, env = place
    names = [str(folder / name) for name in ("left", "right")]
    pair = [subprocess.Popen(command("meet", *order), env=env, cwd=folder) for order in (names, names[::-1])]
    assert [client.wait(60) for client in pair] == [0, 0]
    assert len(servers(folder)) == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_client_that_ends_takes_its_child_along(place, number):
    client, pids = sleeper(place)
    assert all(map(alive, pids))
    client.send_signal(number)
    assert client.wait(10) != 0
    if number != signal.SIGKILL:  # one that can speak leaves after its child
        assert not alive(pids[0])
    assert gone(*pids)


def test_a_killed_server_takes_its_children_along_and_is_replaced(place):
    client, pids = sleeper(place)
    (server,) = servers(place[0])
    os.kill(server, signal.SIGKILL)
    assert client.wait(10) == 70
    assert gone(pids[0])
    os.kill(pids[1], signal.SIGKILL)
    assert run(place, "exit", "5").returncode == 5
    assert servers(place[0]) not in ([], [server])


def test_an_idle_server_leaves(tmp_path):
    path = tmp_path / "s"
    code = "import sys, dart.warm_server as w, pathlib; w.PRELOAD = (); w.IDLE_SECONDS = 0.1; "
    code += "sys.exit(w.serve(int(sys.argv[1]), pathlib.Path(sys.argv[2])))"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        arguments = [sys.executable, "-c", code, str(listener.fileno()), str(path)]
        assert subprocess.run(arguments, pass_fds=[listener.fileno()], cwd=ROOT, timeout=20).returncode == 0
    assert not path.exists()


def test_without_a_server_the_module_runs_all_the_same(place, tmp_path):
    folder, env = place
    (tmp_path / f"dart-warm-{os.getuid()}").mkdir(mode=0o755)  # open to others: refused
    env = {**env, "TMPDIR": str(tmp_path)}
    done = subprocess.run(command("exit", "7"), env=env, cwd=folder)
    assert done.returncode == 7 and servers(tmp_path) == []

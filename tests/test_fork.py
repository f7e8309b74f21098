"""Forked processes have helpers of their own, whatever the parent was doing."""

from __future__ import annotations

import os

import pytest

from processes import python
from test_team import WORK, wanted

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")

FORK = (
    WORK
    + """
import signal, warnings
warnings.simplefilter("ignore")  # of Python, that a process with threads forks

def child():
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)  # hangs no longer than that
        good = work() == WANTED
        os._exit(0 if good and team._team._helpers == 2 else 1)
    return os.waitpid(pid, 0)[1]
"""
)
GIVEN = {"DELTAPROP_NUM_THREADS": 3}


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """A child has no time to compile."""
    python(WORK + "work()", **GIVEN)


def run(code: str) -> str:
    out, _ = python((FORK + code).replace("WANTED", repr(wanted())), **GIVEN)
    return out


def test_a_child_of_a_process_with_helpers() -> None:
    code = "print(work() == WANTED, any(child() for _ in range(3)), work() == WANTED)"
    assert run(code) == "True False True"


def test_a_child_of_a_process_without() -> None:
    assert run("print(child(), team._team._helpers)") == "0 0"


def test_a_child_of_a_child() -> None:
    code = """
work()
pid = os.fork()
if pid == 0:
    work()
    os._exit(0 if child() == 0 else 1)
print(os.waitpid(pid, 0)[1])
"""
    assert run(code) == "0"


def test_a_child_that_is_forked_in_the_middle_of_a_job() -> None:
    """The lock is another thread's, and so are the helpers; then as it happens, again and again."""
    code = """
work()
held, done = threading.Event(), threading.Event()

def lead():
    with team._team.lock:
        held.set()
        done.wait(100)

leader = threading.Thread(target=lead)
leader.start()
held.wait(100)
print(child(), flush=True)
done.set()
leader.join()

stop = []
def forever():
    while not stop:
        work(3000)
callers = [threading.Thread(target=forever) for _ in range(2)]
for caller in callers:
    caller.start()
print(any(child() for _ in range(20)))
stop.append(True)
for caller in callers:
    caller.join()
print(child())
"""
    assert run(code).split() == ["0", "False", "0"]


def test_a_child_that_is_forked_while_something_is_compiled(tmp_path) -> None:
    """No process forks while another thread compiles: LLVM's locks would stay held in the child."""
    code = """
from deltaprop.backends import native
began, forked = threading.Event(), []
def compiles():
    with native.making:
        began.set()
        time.sleep(0.2)
        forked.append(bool(forked))
thread = threading.Thread(target=compiles)
thread.start()
began.wait(100)
status = child()
forked.append(True)
thread.join()
print(status, forked)
"""
    assert run(code) == "0 [False, True]"


POOL = (
    WORK
    + """
import multiprocessing
if __name__ == "__main__":
    import test_fork
    work()
    with multiprocessing.get_context("METHOD").Pool(2) as pool:
        print(set(pool.map_async(test_fork.in_a_pool, [200] * 8).get(60)))
"""
)


def in_a_pool(m: int) -> str:
    scope: dict = {}
    exec(WORK, scope)
    return scope["work"](m)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_pools_of_processes(method: str) -> None:
    out, _ = python(POOL.replace("METHOD", method), **GIVEN)
    assert out == f"{{{wanted()!r}}}"


ENDS = {
    "helpers wait": "work()",
    "a helper has just been given work": "[work(3000) for _ in range(3)]",
    "sys.exit": "work(); sys.exit()",
    "at exit": "import atexit; atexit.register(lambda: print(work()))",
    "in the middle of a job": """
def forever():
    while True:
        work(3000)
threading.Thread(target=forever, daemon=True).start()
work()
""",
}


@pytest.mark.parametrize("how", ENDS)
def test_a_process_ends_cleanly(how: str) -> None:
    out, err = python(WORK + ENDS[how], **GIVEN)
    assert err == ""
    assert out == (wanted() if how == "at exit" else "")

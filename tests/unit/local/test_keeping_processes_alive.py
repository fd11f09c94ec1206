"""A process that dies is started again; one that is to end ends with everything it started, whatever becomes of us."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from mesh.local.processes import Child, Command
from tests.support.waiting import until as wait_until
from tests.support.waiting import until_async


async def until(condition: Callable[[], bool], what: str) -> None:
    async def asked() -> bool:
        return condition()

    await until_async(asked, what)


def alive(pid: int) -> bool:
    """Whether it runs; a zombie that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def shell(folder: Path, script: str, **options: float) -> Command:
    return Command("story", ["/bin/sh", "-c", script], dict(os.environ), folder / "story.log", folder, **options)  # type: ignore[arg-type]


class Said(list[str]):
    def __call__(self, who: str, what: str) -> None:
        self.append(f"{who}: {what}")


async def test_what_dies_is_started_again_after_growing_pauses(tmp_path: Path) -> None:
    said, ends = Said(), []
    child = Child(shell(tmp_path, "echo alive; exit 3"), said, on_exit=lambda: ends.append(1), first_pause=0.02)
    child.start()
    await until(lambda: child.restarts >= 3, "three restarts")
    await child.stop()
    pauses = [line.partition(" in ")[2].partition(" s")[0] for line in said if "exit code 3" in line]
    assert pauses[:3] == ["0.02", "0.04", "0.08"]
    assert len(ends) >= 3
    assert (tmp_path / "story.log").read_text().count("alive") >= 3
    assert child.described()["state"] == "stopped"
    assert child.described()["lastExit"] == "ended with exit code 3"


async def test_a_program_that_is_not_there_is_told_in_its_log(tmp_path: Path) -> None:
    said = Said()
    child = Child(Command("story", [str(tmp_path / "none")], {}, tmp_path / "story.log", tmp_path), said)
    child.start()
    await until(lambda: any("exit code 127" in line for line in said), "the end is told")
    await child.stop()
    assert "none: No such file or directory" in (tmp_path / "story.log").read_text()


async def test_stopping_ends_grandchildren_and_what_ignores_the_request(tmp_path: Path) -> None:
    said = Said()
    child = Child(shell(tmp_path, "trap '' TERM; sleep 300 & echo $! > below; wait; sleep 300", grace=0.2), said)
    child.start()
    below = tmp_path / "below"
    await until(lambda: below.exists() and below.read_text().strip().isdigit(), "the grandchild started")
    pid, grandchild = child.pid, int(below.read_text())
    assert pid
    await child.stop()
    await until(lambda: not alive(pid) and not alive(grandchild), "both ended")
    assert any("did not end within 0.2 s" in line for line in said)


async def test_what_a_dead_process_left_behind_goes_with_it(tmp_path: Path) -> None:
    child = Child(shell(tmp_path, "sleep 300 & echo $! > below; exit 1"), Said(), first_pause=60)
    child.start()
    await until(lambda: child.state == "waiting", "its end was seen")
    grandchild = int((tmp_path / "below").read_text())
    await until(lambda: not alive(grandchild), "the grandchild ended")
    await child.stop()


def test_a_killed_supervisor_leaves_nobody(tmp_path: Path) -> None:
    script = f"""
import asyncio, os
from pathlib import Path
from mesh.local.processes import Child, Command
from tests.support.waiting import until as wait_until
from tests.support.waiting import until_async
async def main():
    folder = Path({str(tmp_path)!r})
    child = Child(Command("story", ["/bin/sleep", "300"], {{}}, folder / "log", folder), lambda who, what: None)
    child.start()
    while child.pid is None:
        await asyncio.sleep(0.01)
    (folder / "pid").write_text(str(child.pid))
    await asyncio.sleep(300)
asyncio.run(main())
"""
    supervisor = subprocess.Popen([sys.executable, "-c", script])
    try:
        pid_file = tmp_path / "pid"
        wait_until(lambda: pid_file.exists() and bool(pid_file.read_text()), "the child started")
        child = int(pid_file.read_text())
        wait_until(lambda: b"sleep" in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")[0], "it became the command")
    finally:
        supervisor.send_signal(signal.SIGKILL)
        supervisor.wait()
    wait_until(lambda: not alive(child), "the child ended too")

"""Linux's `/proc` is read from text as kernels write it."""

from __future__ import annotations

import pytest

from runtime_adapters import procfs
from runtime_adapters.procfs import Memory

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F41 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1470 1 000000000b8660f9 100 0 0 10 0
   1: 00000000:1F41 00000000:0000 0A 00000000:00000000 00:00000000 00000000  2000        0 1471 1 000000000b8660f9 100 0 0 10 0
   2: 0100007F:1F41 0100007F:83CD 01 00000000:00000000 03:000001B4 00000000     0        0 1472 3 00000000a59bb001
   3: 0100007F:1F42 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1473 1 000000000b8660f9 100 0 0 10 0
   4: 0A00A8C0:1F41 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1474 1 000000000b8660f9 100 0 0 10 0
"""
"""Recorded, with numbers changed: two listeners on 8001, a connection of one, a listener on 8002, one on another address."""

TCP6 = "\n".join(
    [
        "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt",
        *(
            f"   {number}: {address}:1F41 {'0' * 32}:0000 0A 00000000:00000000 00:00000000 00000000     0        0 {21 + number} 1"
            for number, address in enumerate(["0" * 32, "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"])
        ),
    ]
)

STATUS = """\
Name:\tpython: x
State:\tS (sleeping)
Pid:\t4711
PPid:\t1
VmPeak:\t  843784 kB
VmRSS:\t  136424 kB
RssAnon:\t   98304 kB
RssFile:\t   36072 kB
RssShmem:\t    2048 kB
Threads:\t12
"""


def test_who_listens_is_told_from_who_is_connected_and_from_other_ports_and_addresses() -> None:
    assert procfs.listeners(TCP, 8001) == {1470, 1471}
    assert procfs.listeners(TCP, 8002) == {1473}
    assert procfs.listeners(TCP6, 8001) == {21, 22, 23}
    assert procfs.listeners(TCP, 9) == set()


def test_lines_that_are_cut_off_or_missing_are_no_listeners() -> None:
    assert procfs.listeners("", 8001) == set()
    assert procfs.listeners(TCP + "   5: 0100007F:1F41 00000000:0000 0A", 8001) == {1470, 1471}


@pytest.mark.parametrize(("link", "inode"), [("socket:[4711]", 4711), ("pipe:[4711]", None), ("/dev/null", None), ("socket:[x]", None)])
def test_an_open_file_is_a_socket_by_its_name(link: str, inode: int | None) -> None:
    assert procfs.socket_inode(link) == inode


@pytest.mark.parametrize("name", ["python", "a b", "(x) R 7", "))"])
def test_a_process_may_have_any_name(name: str) -> None:
    found = procfs.stat(f"4711 ({name}) S 31781 4700 672 0 -1 4194304 102 0 0 0 0 0 0 0 20 0 1 0 4113491 3133440 416 18446744073709551615")
    assert found == procfs.Stat("S", 31781, 4700, 4113491)
    assert not found.ended


def test_a_zombie_has_ended() -> None:
    assert procfs.stat("1 (x) Z 2 1 1 0 -1 4 1 0 0 0 0 0 0 0 20 0 1 0 7").ended


@pytest.mark.parametrize("text", ["", "4711", "4711 (python) S 1 2 3"])
def test_what_is_no_stat_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a /proc/PID/stat"):
        procfs.stat(text)


def test_memory_is_told_without_pages_of_files() -> None:
    assert procfs.memory(STATUS) == Memory(98304 * 1024, 2048 * 1024)


def test_a_process_that_ended_or_is_the_kernels_holds_nothing() -> None:
    assert procfs.memory("Name:\tkthreadd\nPid:\t2\nPPid:\t0\n") == Memory(0, 0)


@pytest.mark.parametrize("text", ["", "garbage", STATUS.replace("RssAnon", "Other"), STATUS.replace("98304 kB", "98304 MB")])
def test_memory_that_is_not_told_is_not_guessed(text: str) -> None:
    with pytest.raises(ValueError, match="RssAnon"):
        procfs.memory(text)


PARENTS = {1: 0, 10: 1, 11: 10, 12: 10, 13: 12, 20: 1}


def test_the_head_of_a_server_is_the_one_that_did_not_inherit_the_socket() -> None:
    assert procfs.heads([10, 11, 12], PARENTS) == {10}
    assert procfs.heads([11, 20], PARENTS) == {11, 20}


def test_a_family_is_all_that_was_started_from_its_heads() -> None:
    assert procfs.family([10], PARENTS) == {10, 11, 12, 13}
    assert procfs.family([11, 20], PARENTS) == {11, 20}
    assert procfs.family([99], PARENTS) == set()
    assert procfs.family([7], {7: 7}) == {7}, "even if it is told to be its own parent"


def running(**processes: tuple[int, int]) -> dict[int, procfs.Stat]:
    """Processes by their ids, `p10=(parent, group)`."""
    return {int(name[1:]): procfs.Stat("S", parent, group, 7) for name, (parent, group) in processes.items()}


OF_A_SERVER = running(p1=(0, 1), p10=(1, 10), p11=(10, 10), p12=(1, 10), p13=(12, 10), p30=(1, 30), p31=(30, 30))
"""Server 10 with a worker, 11; a worker that ended left 12, which started 13. The adapter is 31, and 30 has started it."""


def test_what_a_worker_left_running_is_known_by_the_servers_group() -> None:
    assert procfs.left_behind({10}, OF_A_SERVER, observer=31) == {12}
    assert procfs.family({10, 12}, {pid: one.parent for pid, one in OF_A_SERVER.items()}) == {10, 11, 12, 13}
    in_a_container = {pid: one for pid, one in OF_A_SERVER.items() if pid != 1}
    assert procfs.left_behind({10}, in_a_container, observer=31) == {12}, "also where those that take orphans cannot be seen"


def test_what_a_script_started_beside_the_server_was_not_left_by_it() -> None:
    script = running(p1=(0, 1), p9=(1, 9), p10=(9, 9), p20=(9, 9), p12=(1, 9), p31=(1, 31))
    assert procfs.left_behind({10}, script, observer=31) == {12}, "neither the script, 9, nor what runs beside the server, 20"


@pytest.mark.parametrize("observer", [(10, 10), (1, 10)])
def test_a_group_that_the_adapter_is_in_tells_nothing(observer: tuple[int, int]) -> None:
    assert procfs.left_behind({10}, OF_A_SERVER | running(p31=observer), observer=31) == set()


def test_the_group_of_what_started_the_adapter_tells_nothing_either() -> None:
    shell = running(p1=(0, 1), p9=(1, 9), p10=(9, 9), p31=(9, 31), p12=(1, 9))
    assert procfs.left_behind({10}, shell, observer=31) == set()


def test_shared_memory_counts_once() -> None:
    assert procfs.together([Memory(100, 30), Memory(10, 30), Memory(1, 0)]) == 141
    assert procfs.together([]) == 0

"""Which files of tests run one after the other in one process, where several processes run tests."""

from __future__ import annotations

from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

_RUNTIMES = "tests/integration/runtimes"
SHARING = ((f"{_RUNTIMES}/test_one_mesh_of_many_servers.py", f"{_RUNTIMES}/test_runtimes_of_ones_own.py"),)
"""Files whose stories share servers that take long to start: two processes would start them twice."""
_FIRST = {file: files[0] for files in SHARING for file in files}


class Together(LoadFileScheduling):  # type: ignore[misc] # has no types
    """As `--dist loadfile`, but files of `SHARING` count as one."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, _ = nodeid.partition("::")
        return _FIRST.get(file, file)

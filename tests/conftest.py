"""For all tests: stubs of the test services exist before anything that imports them is collected; no example is late on a slow machine."""

import os
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support import stubs

# Whether the express lane is built here makes no difference: a story has it if it asks for it, or all have it by this variable.
os.environ.setdefault("MESH_LANE", "off")
stubs.ensure()
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("any machine")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Of `--dist loadfile`; of no other."""
    if config.getvalue("dist") != "loadfile":
        return None
    from tests.support.together import Together

    return Together(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What was logged may be no valid text, and reports of tests that run beside each other are sent as UTF-8."""
    report = yield
    report.sections = [(title, text.encode(errors="backslashreplace").decode()) for title, text in report.sections]
    return report

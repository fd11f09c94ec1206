"""A mesh for the stories of a module, and its logs when one fails."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.models.stack import Stack


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    if report.failed:
        for stack in (value for value in getattr(item, "funcargs", {}).values() if isinstance(value, Stack)):
            report.sections.append(("logs of the mesh", stack.logs()))
    return report

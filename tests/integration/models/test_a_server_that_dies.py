"""MLServer is killed while it serves and while it loads: callers need nothing but patience."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Iterator

import grpc
import pytest

from tests.integration.models.stack import MODELS, PATIENCE, Stack, digit_of, digit_request, service
from tests.support.waiting import until

pytestmark = pytest.mark.mlserver

NAMES = [f"digits-{number}" for number in range(4)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("dying")) as stack:
        shutil.copy(MODELS / "mnist-svm.joblib", stack.claim)
        stack.apply(*(service(name, "mnist-svm.joblib") for name in NAMES))
        yield stack


class Callers:
    """Threads that call one service each, without a pause, and note how each call went."""

    def __init__(self, stack: Stack) -> None:
        self.answers: dict[str, list[int | str]] = {name: [] for name in NAMES}
        self._stack = stack
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(name,)) for name in NAMES]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _call(self, name: str) -> None:
        while not self._done.is_set():
            try:
                self.answers[name].append(self._stack.digit(name))
            except grpc.RpcError as error:
                self.answers[name].append(str(error))

    def served_since(self, before: dict[str, int]) -> bool:
        """Whether every service answered at least thrice since, the last three times well."""
        return all(len(found) >= before[name] + 3 and found[-3:] == [8] * 3 for name, found in self.answers.items())

    def counts(self) -> dict[str, int]:
        return {name: len(found) for name, found in self.answers.items()}


def until_another_runs(stack: Stack, pid: int | None) -> None:
    until(lambda: stack.server_pid() not in (None, pid), "MLServer to be started again", within=PATIENCE)


def test_of_the_calls_under_way_when_it_is_killed_and_of_those_after_it_none_fails(stack: Stack) -> None:
    assert stack.digits(NAMES) == [8] * len(NAMES)
    pid = stack.server_pid()
    with Callers(stack) as callers:
        until(lambda: callers.served_since(dict.fromkeys(NAMES, 0)), "every caller to be answered")
        stack.kill_server()
        until_another_runs(stack, pid)
        before = callers.counts()
        until(lambda: callers.served_since(before), "every caller to be answered again", within=PATIENCE)
    # The router makes a call again whose server died under it, and holds all others until the server is back.
    assert {answer for answers in callers.answers.values() for answer in answers} == {8}
    assert stack.resident() == {stack.concrete(name) for name in NAMES}


def test_a_call_that_waits_for_a_load_survives_the_servers_death(stack: Stack) -> None:
    assert stack.digits(NAMES) == [8] * len(NAMES)
    with stack.server_stopped() as pid:
        # Applied while MLServer stands still: its load is under way, and ends with the process.
        stack.apply(service("late", "mnist-svm.joblib"))
        late = stack.concrete("late")
        call = stack.client.v2.ModelInfer.future(digit_request("late"), timeout=PATIENCE)

        def loading() -> bool:
            return [(copy["state"], copy["waiting"]) for copy in stack.facts(f"models/{late}")["copies"]] == [("loading", 1)]

        until(loading, "the call to wait for the load")
        os.kill(pid, signal.SIGKILL)
        assert digit_of(call.result()) == 8
    until_another_runs(stack, pid)
    assert stack.digits([*NAMES, "late"]) == [8] * (len(NAMES) + 1)


def test_a_call_of_a_cold_model_that_comes_while_it_is_down_waits_for_it(stack: Stack) -> None:
    pid = stack.server_pid()
    stack.kill_server()
    until(lambda: stack.facts()["runtime"] == "lost", "the router to know")
    stack.apply(service("later", "mnist-svm.joblib"))
    assert stack.digit("later") == 8
    assert stack.server_pid() not in (None, pid)
    assert stack.digits(NAMES) == [8] * len(NAMES)

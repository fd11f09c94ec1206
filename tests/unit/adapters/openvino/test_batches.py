"""Which loads and unloads share a reload, and what each is answered: the machine alone, told what happens and when."""

from __future__ import annotations

from dataclasses import dataclass, field

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime_adapters.errors import AdapterError, Late, Unreachable
from runtime_adapters.openvino.batches import (
    Answer,
    Batches,
    ClearAsked,
    Event,
    Left,
    LoadAsked,
    Look,
    Looked,
    Reload,
    Reloaded,
    ServerLost,
    TimePassed,
    UnloadAsked,
    WakeAt,
)
from runtime_adapters.openvino.statuses import Statuses, Version, held

QUIET, LONGEST = 0.1, 3.0


def version(state: str, code: str = "OK", message: str = "") -> tuple[Version, ...]:
    return (Version("1", state, code, message),)


SERVES, GONE, LEAVES, COMES = (version(state) for state in ("AVAILABLE", "END", "UNLOADING", "LOADING"))
FAILED = version("LOADING", "UNKNOWN", "cannot be read")


@dataclass
class Play:
    """A machine, its time, and what it ordered."""

    machine: Batches = field(default_factory=lambda: Batches({}, QUIET, LONGEST))
    now: float = 0.0
    answers: dict[int, AdapterError | None] = field(default_factory=dict)
    reloads: list[dict[str, str]] = field(default_factory=list)
    looks: int = 0
    wake: float | None = None
    running: str = ""

    def tell(self, event: Event) -> None:
        for order in self.machine.handle(event, self.now):
            match order:
                case Answer(ticket, error):
                    assert ticket not in self.answers, "an order is answered once"
                    self.answers[ticket] = error
                case WakeAt(time):
                    self.wake = time
                case Reload(models):
                    assert not self.running, "one at a time"
                    self.running = "reload"
                    self.reloads.append(dict(models))
                case Look():
                    assert not self.running, "one at a time"
                    self.running = "look"
                    self.looks += 1

    def wait(self, seconds: float | None = None) -> None:
        """Lets time pass: so much, or until the machine wants to be woken."""
        end = self.now + seconds if seconds is not None else (self.wake if self.wake is not None else self.now)
        while self.wake is not None and self.wake <= end:
            self.now, self.wake = max(self.now, self.wake), None
            self.tell(TimePassed())
        self.now = max(self.now, end)

    def done(self, statuses: Statuses | None, trouble: AdapterError | None = None, *, over: bool = True) -> None:
        """What was under way ends."""
        kind, self.running = self.running, ""
        assert kind
        self.tell(Reloaded(statuses, trouble, over) if kind == "reload" else Looked(statuses))

    def load(self, ticket: int, model: str) -> None:
        self.tell(LoadAsked(ticket, model, f"/at/{model}"))

    def unload(self, ticket: int, model: str) -> None:
        self.tell(UnloadAsked(ticket, model))

    def code(self, ticket: int) -> grpc.StatusCode:
        error = self.answers[ticket]
        assert error
        return error.status


@pytest.fixture
def play() -> Play:
    return Play()


@pytest.fixture
def loaded() -> Play:
    """`kept` serves."""
    play = Play()
    play.load(0, "kept")
    play.wait()
    play.done({"kept": SERVES})
    assert play.answers.pop(0) is None
    play.reloads.clear()
    return play


class TestABatch:
    def test_loads_that_come_close_together_share_a_reload(self, play: Play) -> None:
        for ticket, model in enumerate("abc"):
            play.load(ticket, model)
            play.wait(QUIET / 2)
        assert play.reloads == []
        play.wait()
        assert play.reloads == [{"a": "/at/a", "b": "/at/b", "c": "/at/c"}]
        play.done(dict.fromkeys("abc", SERVES))
        assert play.answers == {0: None, 1: None, 2: None}

    def test_nobody_waits_longer_than_the_longest_wait_however_many_come(self, play: Play) -> None:
        ticket = 0
        while not play.reloads:
            play.load(ticket, f"m{ticket}")
            ticket += 1
            play.wait(QUIET / 2)
            assert play.now < LONGEST + QUIET
        assert play.now >= LONGEST - QUIET

    def test_what_comes_during_a_reload_is_in_the_next_and_there_is_one_at_a_time(self, play: Play) -> None:
        play.load(0, "a")
        play.wait()
        play.load(1, "b")
        play.wait(10 * LONGEST)
        assert play.reloads == [{"a": "/at/a"}]
        play.done({"a": SERVES})
        assert play.answers == {0: None}
        play.wait()
        assert play.reloads[1:] == [{"a": "/at/a", "b": "/at/b"}]

    def test_what_an_earlier_life_had_listed_stays_listed(self) -> None:
        play = Play(Batches({"old": "/at/old"}, QUIET, LONGEST))
        play.load(0, "new")
        play.wait()
        assert play.reloads == [{"old": "/at/old", "new": "/at/new"}]


class TestALoad:
    def test_one_bad_model_does_not_fail_the_others_and_leaves_the_list(self, play: Play) -> None:
        play.load(0, "good")
        play.load(1, "bad")
        play.wait()
        play.done({"good": SERVES, "bad": FAILED}, AdapterError("Reloading models versions failed"))
        assert play.answers[0] is None
        assert play.code(1) is grpc.StatusCode.UNKNOWN
        assert "code: 'UNKNOWN' reason: 'cannot be read'" in str(play.answers[1])
        play.wait()
        assert play.reloads[-1] == {"good": "/at/good"}

    def test_a_model_without_versions_fails_in_plain_words(self, play: Play) -> None:
        play.load(0, "empty")
        play.wait()
        play.done({"empty": ()})
        assert "no version" in str(play.answers[0])

    def test_a_model_that_the_server_does_not_list_fails_with_what_it_complained_of(self, play: Play) -> None:
        play.load(0, "lost")
        play.wait()
        play.done({}, AdapterError("Reloading config file failed"))
        assert play.code(0) is grpc.StatusCode.INTERNAL
        assert "Reloading config file failed" in str(play.answers[0])

    def test_one_that_is_still_coming_is_looked_at_until_it_is_there(self, play: Play) -> None:
        play.load(0, "slow")
        play.wait()
        play.done({"slow": COMES})
        for seen in (COMES, None, COMES, SERVES):
            play.wait()
            play.done(None if seen is None else {"slow": seen})
        assert (play.answers, play.looks, len(play.reloads)) == ({0: None}, 4, 1)

    def test_a_server_that_does_not_answer_fails_the_batch_but_not_what_waits_for_the_next(self, play: Play) -> None:
        play.load(0, "a")
        play.wait()
        play.load(1, "b")
        play.done(None, Late("OVMS did not answer in time"))
        assert play.code(0) is grpc.StatusCode.DEADLINE_EXCEEDED
        play.wait()
        assert play.reloads[-1] == {"b": "/at/b"}
        play.done({"b": SERVES})
        assert play.answers[1] is None

    def test_a_reload_that_is_not_answered_in_time_is_repeated_and_only_what_serves_is_done(self, loaded: Play) -> None:
        loaded.load(1, "early")
        loaded.load(2, "late")
        loaded.unload(3, "kept")
        loaded.wait()
        loaded.done({"early": SERVES, "kept": GONE}, Late("OVMS did not answer in time"), over=False)
        assert loaded.answers == {1: None}, "what is not there yet may come, and what is gone may have been loaded again"
        loaded.wait()
        assert loaded.reloads == [{"early": "/at/early", "late": "/at/late"}] * 2
        loaded.done({"early": SERVES, "late": SERVES})
        assert loaded.answers == {1: None, 2: None, 3: None}

    def test_a_superseded_one_is_told_by_what(self, play: Play) -> None:
        play.load(0, "a")
        play.load(1, "a")
        assert play.code(0) is grpc.StatusCode.ABORTED
        assert str(play.answers[0]) == "the load of model a was superseded by a later load"
        play.wait()
        play.unload(2, "a")
        assert str(play.answers[1]) == "the load of model a was superseded by a later unload"
        play.done({"a": SERVES})
        assert 2 not in play.answers
        play.wait()
        assert play.reloads[-1] == {}
        play.done({"a": GONE})
        assert play.answers[2] is None

    @pytest.mark.parametrize("running", [False, True])
    def test_one_whose_caller_left_leaves_the_list(self, loaded: Play, running: bool) -> None:
        loaded.load(1, "given-up")
        if running:
            loaded.wait()
        loaded.tell(Left(1))
        if running:
            loaded.done({"kept": SERVES, "given-up": SERVES})
        loaded.wait(LONGEST)
        assert not loaded.reloads or loaded.reloads[-1] == {"kept": "/at/kept"}
        assert 1 not in loaded.answers


class TestAnUnload:
    def test_is_over_when_the_server_has_nothing_of_it_and_not_before(self, loaded: Play) -> None:
        loaded.unload(1, "kept")
        assert loaded.answers == {}
        loaded.wait()
        assert loaded.reloads == [{}]
        for seen in (SERVES, LEAVES):
            loaded.done({"kept": seen})
            assert loaded.answers == {}
            loaded.wait()
        loaded.done({"kept": GONE})
        assert loaded.answers == {1: None}

    @pytest.mark.parametrize("seen", [{}, {"kept": ()}, {"kept": FAILED}], ids=["not listed", "no versions", "failed"])
    def test_of_what_the_server_does_not_hold_is_over(self, loaded: Play, seen: Statuses) -> None:
        loaded.unload(1, "kept")
        loaded.wait()
        loaded.done(seen)
        assert loaded.answers == {1: None}

    def test_that_is_refused_keeps_nobody_else_waiting(self, loaded: Play) -> None:
        loaded.unload(1, "kept")
        loaded.wait()
        loaded.done({"kept": LEAVES})
        loaded.load(2, "other")
        for _ in range(20):
            if loaded.running:
                loaded.done({"kept": LEAVES, "other": SERVES} if "other" in loaded.reloads[-1] else {"kept": LEAVES})
            loaded.wait()
        assert loaded.answers == {2: None}

    def test_whose_caller_left_is_carried_out_all_the_same(self, loaded: Play) -> None:
        loaded.unload(1, "kept")
        loaded.tell(Left(1))
        loaded.wait()
        assert loaded.reloads == [{}]

    def test_of_everything_ends_loads_and_is_over_when_nothing_is_left(self, loaded: Play) -> None:
        loaded.load(1, "waiting")
        loaded.tell(ClearAsked(2))
        assert loaded.code(1) is grpc.StatusCode.ABORTED
        loaded.wait()
        assert loaded.reloads == [{}]
        loaded.done({"kept": GONE, "nobody-ordered": LEAVES})
        assert 2 not in loaded.answers
        loaded.wait()
        loaded.done({"kept": GONE})
        assert loaded.answers[2] is None


def test_a_lost_server_fails_whoever_waits_and_nothing_is_wanted_of_its_successor(loaded: Play) -> None:
    loaded.load(1, "running")
    loaded.wait()
    loaded.unload(2, "waiting")
    loaded.tell(ServerLost(Unreachable("OVMS is gone")))
    assert [loaded.code(ticket) for ticket in (1, 2)] == [grpc.StatusCode.UNAVAILABLE] * 2
    assert loaded.machine.wanted == {}
    loaded.done(None, Unreachable("OVMS is gone"))
    loaded.load(3, "next")
    loaded.wait()
    assert loaded.reloads[-1] == {"next": "/at/next"}


MODELS = st.sampled_from("abc")
STATES = st.sampled_from([SERVES, GONE, LEAVES, COMES, FAILED, ()])
WORDS = st.none() | st.dictionaries(MODELS, STATES)


@dataclass
class Chance(Play):
    """A play of drawn steps, which remembers who asked for what."""

    orders: dict[int, tuple[str, str]] = field(default_factory=dict)
    left: set[int] = field(default_factory=set)

    def step(self, ticket: int, step: str, model: str, number: int, word: Statuses | None) -> None:
        if step in ("load", "unload", "clear"):
            self.orders[ticket] = (step, model)
            if step == "clear":
                self.tell(ClearAsked(ticket))
            else:
                (self.load if step == "load" else self.unload)(ticket, model)
        elif step == "leave" and number in self.orders and number not in self.answers:
            self.left.add(number)
            self.tell(Left(number))
        elif step == "wait":
            self.wait(number / 10)
        elif step == "done" and self.running:
            self.end(word, over=number > 2)
        elif step == "lost":
            self.tell(ServerLost(Unreachable("gone")))

    def end(self, word: Statuses | None, *, over: bool = True) -> None:
        before = set(self.answers)
        self.done(word, over=over)
        for ticket in self.answers.keys() - before:
            kind, model = self.orders[ticket]
            if self.answers[ticket] is None:
                assert word is not None, "nobody is told that it is done unless the server said so"
                assert kind != "unload" or not held(word.get(model, ()))
                assert kind != "load" or word[model] == SERVES


STEPS = st.tuples(st.sampled_from(["load", "unload", "clear", "leave", "wait", "done", "lost"]), MODELS, st.integers(0, 9), WORDS)


@given(st.lists(STEPS, max_size=25))
def test_whatever_happens_everybody_is_answered_once_and_the_list_ends_as_wanted(
    steps: list[tuple[str, str, int, Statuses | None]],
) -> None:
    play = Chance()
    for ticket, step in enumerate(steps):
        play.step(ticket, *step)
    # From here on the server does as it is told.
    for _ in range(3 * len(steps) + 10):
        if play.running:
            play.end(dict.fromkeys(play.reloads[-1] if play.reloads else {}, SERVES))
        play.wait(LONGEST)
    assert not play.running
    assert play.orders.keys() - play.left <= play.answers.keys()
    if play.reloads and not any(step == "lost" for step, *_ in steps):
        assert play.reloads[-1] == play.machine.wanted

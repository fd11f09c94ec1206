"""What is let through to the mirror when stores were replaced, leases may have ended, and own writes came first."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mesh.core.registry.instances import InstanceRecord
from mesh.core.registry.origins import Origin, restored
from mesh.core.registry.records import ModelInfo, ModelRecord
from mesh.store.etcd import resets
from mesh.store.etcd.layout import INSTANCES, MODELS, Change, Layout, Table
from mesh.store.etcd.mirror import Mirror
from mesh.store.etcd.resets import Resets
from tests.unit.store.stores import eventually

LAYOUT = Layout("", "mm", "mesh")
RECORD = ModelRecord(ModelInfo("onnx"))
POD = InstanceRecord(endpoint="10.0.0.1:8080")


def change(name: str, revision: int, record: Any, table: Table = MODELS) -> Change:
    return Change(LAYOUT.key(table, name), revision, table, name, record)


class Follower:
    """A mirror behind its gate."""

    def __init__(self) -> None:
        self.mirror, self.doubtful = Mirror(), False
        self.mirror.follows("one")
        self.resets = Resets(self.mirror, lambda: self.doubtful, lambda key: key.endswith(b"/me"))

    def hears(self, *changes: Change) -> None:
        self.mirror.take(self.resets.news(changes))
        self.mirror.reach(max(change.revision for change in changes))

    def replaced(self, marker: str, made_at: int, made_from: str, *found: Change) -> None:
        """Another etcd is read, from beginning to end."""
        self.resets.begin()
        self.mirror.restart()
        self.resets.found(marker, made_at, made_from)
        known = {each.key for each in found}
        missing = [change(name, made_at, None) for name in self.models if LAYOUT.key(MODELS, name) not in known]
        self.mirror.take(self.resets.news([*found, *missing]))
        self.resets.over()
        self.mirror.reach(made_at)

    @property
    def models(self) -> set[str]:
        return set(self.mirror.tables[MODELS.name])

    @property
    def pods(self) -> set[str]:
        return set(self.mirror.tables[INSTANCES.name])

    @property
    def owed(self) -> dict[str, Origin]:
        return {owed.id: owed.origin for owed in self.mirror.owed.values()}


@pytest.fixture
def follower() -> Follower:
    return Follower()


def test_what_is_missing_in_an_etcd_that_took_the_place_is_shown_and_owed(follower: Follower) -> None:
    follower.hears(change("a", 5, RECORD))
    follower.replaced("two", 2, "")
    assert follower.models == {"a"}
    assert follower.owed == {"a": Origin("one", 5)}
    follower.hears(change("a", 3, RECORD))
    assert not follower.owed, "somebody wrote it"


def test_a_reading_that_begins_again_owes_the_same(follower: Follower) -> None:
    follower.hears(change("a", 5, RECORD))
    follower.replaced("two", 2, "")
    follower.replaced("two", 2, "")
    assert follower.owed == {"a": Origin("one", 5)}


def test_what_etcd_never_had_cannot_be_deleted_there(follower: Follower) -> None:
    follower.hears(change("a", 5, RECORD))
    follower.replaced("two", 2, "")
    follower.hears(change("a", 4, None))
    assert follower.models == {"a"}
    assert follower.owed


def test_of_an_old_state_that_was_put_back_older_records_count_less_and_later_ones_more(follower: Follower) -> None:
    new, newest = RECORD.with_(refs=1), RECORD.with_(refs=2)
    follower.hears(change("same", 3, RECORD), change("mine", 5, new), change("dead", 4, RECORD))
    follower.hears(change("dead", 6, None))
    found = [change("same", 3, RECORD), change("mine", 2, RECORD), change("dead", 4, RECORD), change("theirs", 9, newest)]
    follower.replaced("two", 8, "one", *found)
    assert follower.models == {"same", "mine", "theirs"}
    assert follower.mirror.tables[MODELS.name]["mine"] == new
    assert follower.owed == {"mine": Origin("one", 5), "dead": Origin("one", 6)}


def test_what_a_pod_writes_again_that_missed_a_deletion_is_deleted_again(follower: Follower) -> None:
    follower.hears(change("a", 5, RECORD))
    follower.hears(change("a", 6, None))
    follower.replaced("two", 2, "")
    follower.hears(change("a", 7, restored(RECORD, Origin("one", 5))))
    assert not follower.models
    assert follower.owed == {"a": Origin("one", 6)}


def test_what_was_registered_after_the_deletion_stays(follower: Follower) -> None:
    follower.hears(change("a", 5, RECORD))
    follower.hears(change("a", 6, None))
    follower.replaced("two", 2, "")
    follower.hears(change("a", 7, restored(RECORD, Origin("one", 8))))
    assert follower.models == {"a"}
    assert not follower.owed
    assert len(follower.mirror.deletions) == 0


def test_a_change_that_own_writes_are_past_owes_nothing(follower: Follower) -> None:
    """The own deletion is known before the watch brings the change that came before it."""
    marked = restored(RECORD, Origin("nought", 1))
    follower.hears(change("a", 5, marked))
    follower.mirror.fold([change("a", 7, None)])
    follower.mirror.take(follower.resets.news([change("a", 6, marked)]))
    assert not follower.models
    assert not follower.owed


async def test_a_pod_that_goes_while_leases_are_in_doubt_is_shown_for_a_while(follower: Follower, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resets, "GRACE", 0.05)
    follower.hears(*(change(pod, 3, POD, INSTANCES) for pod in ("me", "back", "dead")))
    follower.doubtful = True
    follower.hears(*(change(pod, 4, None, INSTANCES) for pod in ("me", "back", "dead")))
    assert follower.pods == {"back", "dead"}, "that its own record went a pod has to know at once"
    follower.hears(change("back", 5, POD, INSTANCES))
    await eventually(lambda: follower.pods == {"back"})
    await asyncio.sleep(0.06)
    assert follower.pods == {"back"}


def test_a_pod_that_goes_while_etcd_answers_is_gone_at_once(follower: Follower) -> None:
    follower.hears(change("dead", 3, POD, INSTANCES))
    follower.hears(change("dead", 4, None, INSTANCES))
    assert not follower.pods

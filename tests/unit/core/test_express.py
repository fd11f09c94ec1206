"""What the express lane is told, and how its calls count where copies are evicted and drained."""

from __future__ import annotations

from mesh.core.events import LastCallEnded, ModelDeleted
from mesh.core.ids import ModelId, PodId
from mesh.core.registry.records import AliasRecord, ModelRecord
from mesh.core.routing.dataplane import Dataplane, Rule
from mesh.core.routing.express import lead_of, methods_of, models_of, others_of
from mesh.core.routing.sharing import Sharing
from mesh.core.traffic.policy import Policy, Version, canary
from mesh.core.units import Millis
from tests.unit.core.stage import HERE, INFO, Stage, Straight, copy_id

V2 = "inference.GRPCInferenceService"
A, B = ModelId("a"), ModelId("b")
VERSIONS = (Version(1, A), Version(2, B))
CANARY = Policy(default=canary(10))


def holding(*models: str) -> Stage:
    return Stage(capacity=1000, default=300, slots=1).holding(models)


class TestCopies:
    def test_one_that_comes_to_serve_is_announced_and_one_that_ceases_to_is_withdrawn(self) -> None:
        stage = Stage(capacity=1000, default=300, slots=1)
        stage.pod.cache.express = True
        stage.want("a")
        assert stage.loaded("a#1") == ["announce a#1"]
        stage.leave_all("a")
        assert stage.tell(ModelDeleted(ModelId("a"))) == ["withdraw a#1", "unload a#1"]

    def test_the_one_that_the_lane_used_longest_ago_goes(self) -> None:
        stage = holding("a", "b", "c")
        stage.copy("a#1").account = Straight(last_used=stage.now)
        assert stage.want("d") == ["unload b#1"]
        assert stage.copy("a#1").last_used == stage.now

    def test_one_that_the_lane_calls_is_not_idle(self) -> None:
        stage = holding("a", "b", "c")
        stage.copy("a#1").account = Straight(calls=1)
        assert stage.want("d") == ["unload b#1"]

    def test_one_that_the_lane_s_callers_wait_for_is_not_idle(self) -> None:
        stage = holding("a", "b", "c")
        stage.copy("a#1").account = Straight(waiting=1)
        assert stage.want("d") == ["unload b#1"]

    def test_one_that_leaves_drains_until_both_planes_have_no_call_on_it(self) -> None:
        stage = holding("a")
        account = Straight(calls=2)
        stage.copy("a#1").account = account
        call = stage.enter("a")
        assert stage.tell(ModelDeleted(ModelId("a"))) == []
        assert stage.last_line("a") == "ready -> draining: its model was deleted; 3 calls run on it"
        assert stage.leave(call) == []
        account.calls = 0
        assert stage.tell(LastCallEnded(copy_id("a#1"))) == ["unload a#1"]


class TestTable:
    def test_copies_of_other_pods_are_told_once_they_serve(self) -> None:
        other, third = PodId("other"), PodId("third")
        record = ModelRecord(INFO, copies={HERE: Millis(1), other: Millis(2), third: Millis(3)}, ready={HERE: Millis(4)})
        assert others_of(record, HERE) == ()
        assert others_of(record.with_(ready={HERE: Millis(4), other: Millis(5)}), HERE) == ((other, Millis(2)),)
        # A pod that is ready but holds no copy any more is about to leave the record.
        assert others_of(record.with_(copies={HERE: Millis(1)}, ready={other: Millis(5)}), HERE) == ()
        assert others_of(ModelRecord(INFO), HERE) == others_of(None, HERE) == ()

    def test_an_alias_leads_to_its_model_unless_it_is_being_switched(self) -> None:
        assert lead_of(AliasRecord(A, A), None) == A
        assert lead_of(AliasRecord(A, ModelId("b")), None) is None

    def test_one_that_shares_calls_leads_to_several_models_unless_it_is_being_switched(self) -> None:
        record = AliasRecord(A, A, versions=VERSIONS, policy=CANARY)
        lead = lead_of(record, INFO)
        assert isinstance(lead, Sharing)
        assert models_of(lead) == {A, B}
        assert lead_of(record.with_(target=B), INFO) is None

    def test_the_models_of_an_alias_are_those_that_get_calls(self) -> None:
        assert models_of(None) == frozenset()
        assert models_of(A) == {A}


class TestMethods:
    def test_those_that_the_pod_answers_are_withheld(self) -> None:
        rules = methods_of(Dataplane.DEFAULT, {}, any_other=True, answered=[f"{V2}/ModelReady"], private=["mmesh.ModelMesh"])
        named = dict(rules.rules)
        assert named[f"{V2}/ModelInfer"] == ((1,), False, True, ())
        assert f"{V2}/ModelReady" not in named
        assert rules.others == ((), False, False, ())
        assert set(rules.withheld) == {f"{V2}/ModelReady", "mmesh.ModelMesh"}

    def test_where_the_runtime_wants_the_id_is_told(self) -> None:
        rules = methods_of(Dataplane.DEFAULT, {f"{V2}/ModelInfer": (1,), "a.B/C": (2, 3)}, any_other=False, answered=[], private=["p.P"])
        assert dict(rules.rules) == {f"{V2}/ModelInfer": ((1,), False, True, (1,)), "a.B/C": ((), False, False, (2, 3))}
        assert rules.others is None
        assert f"{V2}/ModelConfig" in rules.withheld

    def test_what_the_dataplane_config_forbids_is_withheld(self) -> None:
        dataplane = Dataplane({"a.B/C": Rule((1,), alias=True)}, False)
        rules = methods_of(dataplane, {"a.B/C": (1,), "a.B/D": (1,), "p.P/x": (1,)}, any_other=True, answered=[], private=["p.P"])
        assert rules.rules == [("a.B/C", ((1,), True, False, (1,)))]
        assert rules.others is None
        assert rules.withheld == ["p.P", "a.B/D"]

"""What is told about models, and the way of a call: from facts, without changing any."""

from __future__ import annotations

import pytest

from mesh.core.errors import Code, Failed, LoadFailed, Malformed, MeshError, NoRuntime, Unknown
from mesh.core.events import ModelDeleted
from mesh.core.explaining.status import AliasState, CopyStatus, ModelState, ModelStatus, alias_state, model_status
from mesh.core.explaining.story import Stories
from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.placement.constraints import Constraints
from mesh.core.policy import Policy, policy_of
from mesh.core.registry.records import AliasRecord, ModelRecord
from mesh.core.routing.names import resolve_alias, resolve_name
from mesh.core.units import Millis, bytes_of, units, whole_units
from tests.unit.core.stage import HERE, INFO, Stage

M, THERE = ModelId("m"), PodId("there")


def status(stage: Stage, record: ModelRecord | None = None) -> ModelStatus:
    return model_status(record or ModelRecord(INFO), HERE, stage.pod.copy(M), stage.pod.cache.failures.of(M), stage.pod.refusal(M, INFO))


def test_an_unknown_model_is_not_found() -> None:
    assert model_status(None, HERE, None, None).state is ModelState.NOT_FOUND


def test_a_model_is_not_loaded_then_loading_then_loaded() -> None:
    stage = Stage()
    assert status(stage) == ModelStatus(ModelState.NOT_LOADED)
    stage.want("m")
    assert status(stage).state is ModelState.LOADING
    stage.later(5)
    stage.loaded("m#1")
    assert status(stage) == ModelStatus(ModelState.LOADED, (), [CopyStatus(HERE, ModelState.LOADED, stage.now)])


def test_a_failed_model_tells_why_newest_first_and_where() -> None:
    stage = Stage()
    stage.want("m")
    stage.failed("m#1", "broken here")
    record = ModelRecord(INFO, failed={THERE: Millis(1)}, failures={THERE: "broken there"})
    told = status(stage, record)
    assert told.state is ModelState.LOADING_FAILED
    assert told.errors == ["broken here", "broken there"]
    assert [copy.pod for copy in told.copies] == [HERE, THERE]


def test_one_loaded_copy_makes_a_model_loaded_whatever_failed_elsewhere() -> None:
    record = ModelRecord(INFO, copies={THERE: Millis(3)}, ready={THERE: Millis(4)}, failed={PodId("x"): Millis(5)})
    told = status(Stage(), record)
    assert (told.state, told.errors) == (ModelState.LOADED, ())


def test_a_model_that_no_runtime_takes_reads_as_failed_with_the_reason() -> None:
    stage = Stage()
    stage.pod.constraints = Constraints.parse('{"test": {"required": ["gpu"]}}')
    told = status(stage)
    assert told.state is ModelState.LOADING_FAILED
    assert told.errors == ("There are no running instances that meet the label requirements of type test: [gpu]",)


def test_an_alias_rests_moves_or_cannot() -> None:
    moving = AliasRecord(ModelId("a"), ModelId("b"))
    assert alias_state(AliasRecord(M, M)) is AliasState.DEFINED
    assert alias_state(moving) is AliasState.TRANSITIONING
    assert alias_state(moving.with_(failed=True)) is AliasState.TRANSITION_FAILED


# Names


def test_an_alias_stands_for_its_active_model_or_else_its_target() -> None:
    alias, a, b = AliasId("alias"), ModelId("a"), ModelId("b")
    aliases = {alias: AliasRecord(a, b)}
    assert resolve_alias(alias, aliases, {a: ModelRecord(INFO), b: ModelRecord(INFO)}) == a
    assert resolve_alias(alias, aliases, {b: ModelRecord(INFO)}) == b
    with pytest.raises(Failed, match="Target model b of vmodel alias not found"):
        resolve_alias(alias, aliases, {})
    with pytest.raises(Unknown, match="vmodel not found"):
        resolve_alias(AliasId("other"), aliases, {})


def test_a_name_that_is_no_alias_is_tried_as_a_model() -> None:
    aliases = {AliasId("alias"): AliasRecord(M, M)}
    assert resolve_name("alias", aliases, {M: ModelRecord(INFO)}) == M
    assert resolve_name("m", aliases, {M: ModelRecord(INFO)}) == M
    with pytest.raises(Unknown, match="neither an alias nor a model named 'x'"):
        resolve_name("x", aliases, {M: ModelRecord(INFO)})


# Constraints, policies, units, stories


def test_a_type_without_an_entry_falls_to_the_default_and_without_that_goes_anywhere() -> None:
    constraints = Constraints.parse('{"a": {"required": ["x", "y"], "preferred": ["z"]}, "_default": {"required": ["q"]}}')
    assert constraints.refusal("a", ("x", "y", "z")) is None
    assert isinstance(constraints.refusal("a", ("x",)), NoRuntime)
    assert constraints.refusal("b", ("q",)) is None
    assert Constraints.parse("").refusal("b", ()) is None


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 5}', '{"a": {"required": "x"}}', '{"a": {"required": [1]}}'])
def test_constraints_of_another_form_are_refused(text: str) -> None:
    with pytest.raises(Malformed, match="type constraints"):
        Constraints.parse(text)


GIB = 1 << 30


@pytest.mark.parametrize(
    ("figures", "text"),
    [
        ((GIB, 1_000_000, 0, 90_000), "maxLoadingConcurrency is 0"),
        ((GIB, 100, 1, 90_000), "defaultModelSizeInBytes is 100"),
        ((GIB, 1_000_000, 1, 99), "modelLoadingTimeoutMs is 99"),
        ((5_000_000, 1_000_000, 1, 90_000), "capacityInBytes is 5000000"),
    ],
)
def test_impossible_figures_of_a_runtime_are_named(figures: tuple[int, int, int, int], text: str) -> None:
    told = policy_of(*figures)
    assert isinstance(told, str)
    assert told.startswith(text)


def test_the_policy_takes_a_runtimes_figures() -> None:
    policy = policy_of(GIB, 50 << 20, 6, 90_000, failure_expiry=5, drain_limit=6)
    assert isinstance(policy, Policy)
    assert (policy.capacity, policy.default_size, policy.longest_wait, policy.churn_age) == (131_072, 6_400, 450_000, 300_000)
    two = policy_of(GIB, 50 << 20, 2, 90_000)
    assert isinstance(two, Policy)
    assert two.reserve == 6_400


def test_sizes_round_up_to_units_and_capacities_down() -> None:
    assert (units(0), units(1), units(8192), units(8193), whole_units(16383), bytes_of(units(8193))) == (1, 1, 1, 2, 1, 16384)


def test_stories_are_bounded_and_the_model_written_about_longest_ago_is_forgotten() -> None:
    stories = Stories(models=2, lines=2)
    for model in ("a", "b", "a", "c"):
        for text in ("1", "2", "3"):
            stories.tell(ModelId(model), Millis(0), text)
    assert stories.of(ModelId("b")) == ()
    assert [line.text for line in stories.of(ModelId("a"))] == ["2", "3"]


def test_stories_of_models_that_were_deleted_make_no_others_forgotten() -> None:
    stories = Stories(models=2, lines=2, ended=1)
    for model in ("a", "b"):
        stories.tell(ModelId(model), Millis(0), "1")
        stories.known(ModelId(model), False)
    stories.tell(ModelId("b"), Millis(1), "unloaded")
    for model in ("c", "d"):
        stories.tell(ModelId(model), Millis(2), "1")
    told = {model: [line.text for line in stories.of(ModelId(model))] for model in "abcd"}
    assert told == {"a": [], "b": ["1", "unloaded"], "c": ["1"], "d": ["1"]}
    stories.known(ModelId("b"), True)
    assert [line.text for line in stories.of(ModelId("b"))] == ["1", "unloaded"], "registered again"
    assert stories.of(ModelId("c")) == ()
    stories.known(ModelId("nobody"), False)
    assert stories.of(ModelId("nobody")) == ()


def test_errors_say_what_they_are() -> None:
    error = LoadFailed("no such file")
    assert (str(error), error.code, error.http, error.elsewhere) == ("no such file", Code.INTERNAL, 500, True)
    assert isinstance(error, MeshError)


def test_a_copy_shows_itself_briefly() -> None:
    stage = Stage().holding(["m"])
    assert repr(stage.copy("m#1")) == "m#1 ready 100u calls=0 waiting=0"
    stage.tell(ModelDeleted(M))
    assert repr(stage.copy("m#1")) == "m#1 unloading 100u calls=0 waiting=0"

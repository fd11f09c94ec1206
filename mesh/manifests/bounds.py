"""What a service's document says of the number of its copies and versions: annotations of ours, or the replicas that KServe users write.

A mesh has no replicas of one service: its model has copies in the pods of a runtime. `spec.predictor.minReplicas` and `maxReplicas` are
taken as bounds on these; an annotation goes before. What KServe reads to scale pods by a metric (`scaleTarget`, `scaleMetric`,
`containerConcurrency`, annotations of `autoscaling.knative.dev/` and `serving.kserve.io/`) says nothing of copies and is passed over.

`mesh scale` writes the annotations into the kept document and remembers which (`SCALED`). A document that is applied later and says
nothing of them keeps them; where it does, it wins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mesh.core.errors import Malformed
from mesh.core.registry.records import Bounds
from mesh.core.scaling.bounds import fault
from mesh.core.traffic.policy import KEPT
from mesh.core.traffic.reading import MOST_KEPT
from mesh.manifests.documents import InferenceService, Predictor

PREFIX = "mesh.kserve.io/"
LEAST, MOST, PINNED, PRELOAD = ANNOTATIONS = (f"{PREFIX}min-copies", f"{PREFIX}max-copies", f"{PREFIX}pinned", f"{PREFIX}preload")
VERSIONS = f"{PREFIX}versions"
"""How many versions of a service are kept."""
SCALED = f"{PREFIX}scaled"
"""Which of them `mesh scale` set, comma-separated."""

_REPLICAS = {LEAST: "minReplicas", MOST: "maxReplicas"}
_OF_PODS = (
    "autoscaling.knative.dev/",
    "serving.kserve.io/min-scale",
    "serving.kserve.io/max-scale",
    "serving.kserve.io/autoscalerClass",
    "serving.kserve.io/metrics",
    "serving.kserve.io/metric",
    "serving.kserve.io/targetUtilizationPercentage",
)
_FIELDS_OF_PODS = ("scaleTarget", "scaleMetric", "containerConcurrency")

Path = tuple[str | int, ...]


class BoundsFault(Malformed):
    """A value that cannot be; `path` leads to it in the document."""

    def __init__(self, message: str, path: Path) -> None:
        super().__init__(message)
        self.path = path


def bounds_of(document: InferenceService | Predictor) -> Bounds:
    """The bounds that a document asks for.

    Raises:
        BoundsFault: a value is no number, negative, neither true nor false, the minimum is greater than the maximum, or an annotation has
            our prefix and no meaning.
    """
    notes = document.metadata.annotations
    for name in sorted(notes):
        if name.startswith(PREFIX) and name not in (*ANNOTATIONS, VERSIONS, SCALED):
            said = f"metadata.annotations: there is no {name}; there are {', '.join((*ANNOTATIONS, VERSIONS))}"
            raise BoundsFault(said, ("metadata", "annotations", name))
    (least, least_at), (most, most_at) = (_number(document, name) for name in (LEAST, MOST))
    bounds = Bounds(least, most, _flag(notes, PINNED), _flag(notes, PRELOAD))
    wrong = fault(bounds)
    if wrong is not None:
        alone = fault(Bounds(least=least)) is not None or not most
        raise BoundsFault(wrong, least_at if alone else most_at)
    return bounds


def _number(document: InferenceService | Predictor, name: str) -> tuple[int, Path]:
    text = document.metadata.annotations.get(name)
    if text is None:
        block = document.spec.predictor if isinstance(document, InferenceService) else None
        replicas = getattr(block, "min_replicas" if name == LEAST else "max_replicas", None)
        return replicas or 0, ("spec", "predictor", _REPLICAS[name])
    path: Path = ("metadata", "annotations", name)
    return _whole(name, text, path), path


def kept_versions(document: InferenceService | Predictor) -> int:
    """How many versions a service keeps.

    Raises:
        BoundsFault: the annotation is no number from 1 to what is possible.
    """
    text = document.metadata.annotations.get(VERSIONS)
    if text is None:
        return KEPT
    path: Path = ("metadata", "annotations", VERSIONS)
    number = _whole(VERSIONS, text, path)
    if not 1 <= number <= MOST_KEPT:
        raise BoundsFault(f"metadata.annotations: {VERSIONS} has to be from 1 to {MOST_KEPT}, not {number}", path)
    return number


def _whole(name: str, text: str, path: Path) -> int:
    digits = text.strip().removeprefix("-")
    if not (digits.isascii() and digits.isdecimal()):
        raise BoundsFault(f"metadata.annotations: {name} has to be a whole number, not {text!r}", path)
    return int(text)


def _flag(notes: Mapping[str, str], name: str) -> bool:
    text = notes.get(name, "false")
    if text not in ("true", "false"):
        raise BoundsFault(f"metadata.annotations: {name} has to be true or false, not {text!r}", ("metadata", "annotations", name))
    return text == "true"


def passed_over(document: InferenceService | Predictor) -> str:
    """A note for the user on what a document says of pods, which a mesh does not go by; empty if it says nothing."""
    found = sorted(_about_pods(document))
    if not found:
        return ""
    return f"{', '.join(found)} scale pods and are passed over; for copies there are {LEAST} and {MOST}"


def _about_pods(document: InferenceService | Predictor) -> Iterator[str]:
    yield from (name for name in document.metadata.annotations if name.startswith(_OF_PODS))
    if isinstance(document, InferenceService):
        yield from (name for name in _FIELDS_OF_PODS if name in (document.spec.predictor.model_extra or {}))


def scaled(raw: Mapping[str, Any], wanted: Mapping[str, str]) -> dict[str, Any]:
    """A kept document with annotations as `mesh scale` sets them.

    Args:
        raw: the document.
        wanted: annotation -> its value.
    """
    notes = _notes(raw)
    by_hand = {*_by_hand(raw), *wanted}
    return _with_notes(raw, {**notes, **wanted, SCALED: ",".join(sorted(name.removeprefix(PREFIX) for name in by_hand))})


def unscaled(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A former document without what `mesh scale` set in it: that is of its time."""
    notes, by_hand = _notes(raw), (*_by_hand(raw), SCALED)
    return _with_notes(raw, {name: value for name, value in notes.items() if name not in by_hand}) if SCALED in notes else {**raw}


def carried_over(raw: dict[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """A document to be applied, with what `mesh scale` set in the one before and this one says nothing of."""
    notes, old = _notes(raw), _notes(before)
    said = {*notes, *(name for name, field in _REPLICAS.items() if _replicas(raw, field) is not None)}
    kept = {name: old[name] for name in _by_hand(before) if name in old and name not in said}
    return scaled(raw, kept) if kept and SCALED not in notes else raw


def _by_hand(raw: Mapping[str, Any]) -> list[str]:
    names = str(_notes(raw).get(SCALED, "")).split(",")
    return [PREFIX + name for name in names if PREFIX + name in ANNOTATIONS]


def _notes(raw: Mapping[str, Any]) -> dict[str, Any]:
    return dict(raw["metadata"].get("annotations") or {})


def _replicas(raw: Mapping[str, Any], field: str) -> Any:
    predictor = (raw.get("spec") or {}).get("predictor")
    return predictor.get(field) if isinstance(predictor, Mapping) else None


def _with_notes(raw: Mapping[str, Any], notes: Mapping[str, Any]) -> dict[str, Any]:
    return {**raw, "metadata": {**raw["metadata"], "annotations": dict(notes)}}

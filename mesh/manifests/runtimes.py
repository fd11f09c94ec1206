"""Runtimes' documents → labels, type constraints, dataplane rules, and how one pod of a runtime is run (reference D.3–D.5)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from importlib import resources
from typing import Any

from mesh.core.errors import Malformed
from mesh.manifests.documents import AnyRuntime, Container, ServingRuntime, ServingRuntimeSpec
from mesh.manifests.parsing import Applied, parse
from mesh.manifests.reading import read_text

_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:(Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E)|[eE]([+-]?\d{1,3}))?\Z")
_POWERS = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_RESERVED_CONTAINERS = ("mm", "rest-proxy", "puller")


@dataclass(frozen=True)
class PodPlan:
    """How one pod of a runtime is run.

    Attributes:
        labels: what the pod offers, sorted; the router's MM_LABELS.
        memory_request: bytes of the model server's container.
        memory_buffer: bytes of that which are not for models.
        load_timeout: milliseconds one load may take.
        server_env: of the model server's container.
        adapter_env: what the document adds to the adapter's environment.
    """

    name: str
    server_type: str
    labels: tuple[str, ...]
    memory_request: int
    memory_buffer: int
    load_timeout: int
    loading_concurrency: int = 1
    version: str = "v1"
    server_env: Mapping[str, str] = field(default_factory=dict)
    adapter_env: Mapping[str, str] = field(default_factory=dict)

    @property
    def capacity(self) -> int:
        """Bytes for models."""
        return self.memory_request - self.memory_buffer


def built_in() -> list[Applied]:
    """The runtimes that exist without a document of the user's."""
    folder = resources.files("mesh.manifests") / "builtin"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".yaml")), key=lambda file: file.name)
    return parse(source for file in files for source in read_text(file.read_text(encoding="utf-8"), f"built-in {file.name}"))


def in_force(documents: Iterable[AnyRuntime]) -> dict[str, AnyRuntime]:
    """Runtimes by name, the later of two of a kind in force, a ServingRuntime before a ClusterServingRuntime; only what serves."""
    found: dict[str, AnyRuntime] = {}
    for document in documents:
        before = found.get(document.name)
        if not (isinstance(before, ServingRuntime) and not isinstance(document, ServingRuntime)):
            found[document.name] = document
    return {name: document for name, document in found.items() if document.spec.multi_model and not document.spec.disabled}


def labels(name: str, spec: ServingRuntimeSpec, *, rest: bool = True) -> tuple[str, ...]:
    """What a pod of this runtime offers, sorted; with REST in front of it a `grpc-v2` runtime also speaks `v2`."""
    found = {f"rt:{name}"}
    for supported in spec.supported_model_formats:
        if supported.auto_select:
            found.add(f"mt:{supported.name}")
            found |= {f"mt:{supported.name}:{supported.version}"} if supported.version else set()
    found |= {f"pv:{version}" for version in spec.protocol_versions}
    if rest and "grpc-v2" in spec.protocol_versions:
        found.add("pv:v2")
    return tuple(sorted(found))


def type_constraints(runtimes: Mapping[str, AnyRuntime], *, rest: bool = True) -> dict[str, dict[str, list[str]]]:
    """The router's MM_TYPE_CONSTRAINTS: which labels a model of each type needs; what no runtime offers needs the impossible."""
    found: dict[str, dict[str, list[str]]] = {"_default": {"required": ["_no_runtime"]}}
    for name, document in runtimes.items():
        offered = labels(name, document.spec, rest=rest)
        for label in offered:
            if label.startswith(("mt:", "rt:")):
                found[label] = {"required": [label]}
            if label.startswith("mt:"):
                protocols = (other for other in offered if other.startswith("pv:"))
                found.update({f"{label}|{protocol}": {"required": [label, protocol]} for protocol in protocols})
    return dict(sorted(found.items()))


def dataplane_config() -> dict[str, Any]:
    """The router's MM_DATAPLANE_CONFIG: ModelMesh's, and the two methods of the v2 protocol that it left out."""
    by_name = {"idExtractionPath": [1], "vModelId": True}
    service = "inference.GRPCInferenceService"
    return {
        "rpcConfigs": {
            f"{service}/ModelInfer": by_name,
            f"{service}/ModelMetadata": by_name,
            f"{service}/ModelStreamInfer": by_name,
            f"{service}/ModelReady": by_name,
            "tensorflow.serving.PredictionService/Predict": {"idExtractionPath": [1, 1], "vModelId": True},
            "org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions": by_name,
        },
        "allowOtherRpcs": True,
    }


def pod_plan(document: AnyRuntime, *, rest: bool = True) -> PodPlan:
    """How a pod of this runtime is run.

    Raises:
        Malformed: the document lacks an adapter, its container, or a memory request that is larger than the buffer, or takes a
            reserved name.
    """
    name, spec, adapter = document.name, document.spec, document.spec.built_in_adapter
    place = f"{document.kind} {name}"
    if adapter is None:
        raise Malformed(f"{place}: spec.builtInAdapter is missing; it names the model server (serverType) that this mesh is to start")
    _check_containers(place, spec)
    container = next((one for one in spec.containers if one.name == adapter.server_type), None)
    if container is None:
        raise Malformed(f"{place}: spec.containers has none named {adapter.server_type!r}, which builtInAdapter.serverType asks for")
    request = memory_request(place, container)
    if request <= adapter.mem_buffer_bytes:
        raise Malformed(
            f"{place}: the memory request of {request} bytes leaves no room for models beside memBufferBytes "
            f"{adapter.mem_buffer_bytes}; raise resources.requests.memory"
        )
    return PodPlan(
        name=name,
        server_type=adapter.server_type,
        labels=labels(name, spec, rest=rest),
        memory_request=request,
        memory_buffer=adapter.mem_buffer_bytes,
        # Kubernetes hands an omitted time-out on as 0, with which nothing would ever load; the adapter's default is meant.
        load_timeout=adapter.model_loading_timeout_millis or 30_000,
        loading_concurrency=_concurrency(place, document),
        version=_version(container.image),
        server_env={variable.name: variable.value for variable in container.env},
        adapter_env={variable.name: variable.value for variable in adapter.env},
    )


def memory_request(place: str, container: Container) -> int:
    """Bytes of `resources.requests.memory`; the limit stands in for a missing request, as in Kubernetes. Malformed if neither is there."""
    resources_ = container.resources
    for field_name, given in (("requests", resources_.requests), ("limits", resources_.limits)):
        if "memory" in given:
            return parse_quantity(given["memory"], f"{place}: container {container.name}: resources.{field_name}.memory")
    raise Malformed(f"{place}: container {container.name}: resources.requests.memory is missing; it is what models may fill")


def parse_quantity(value: str | int | float, place: str) -> int:
    """A Kubernetes quantity in whole units, rounded up: `1Gi` is 1073741824, `500m` is 1. Malformed if it is none."""
    match = _QUANTITY.match(str(value))
    if not match:
        raise Malformed(f"{place}: {value!r} is not a quantity such as 512Mi or 1Gi")
    number, suffix, exponent = match.groups()
    amount = Fraction(number)
    if suffix in _BINARY:
        amount *= 2 ** _BINARY[suffix]
    else:
        amount *= Fraction(10) ** (_POWERS[suffix] if suffix else int(exponent or 0))
    return math.ceil(amount)


def _check_containers(place: str, spec: ServingRuntimeSpec) -> None:
    for container in spec.containers:
        if container.name in _RESERVED_CONTAINERS or container.name.startswith("mm-"):
            raise Malformed(f"{place}: the container name {container.name!r} is reserved for the mesh; choose another")


def _concurrency(place: str, document: AnyRuntime) -> int:
    text = document.metadata.annotations.get("maxLoadingConcurrency", "1")
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise Malformed(f"{place}: the annotation maxLoadingConcurrency must be a whole number of at least 1, not {text!r}")
    return int(text)


def _version(image: str) -> str:
    """The tag; a colon before the last slash belongs to the registry's port."""
    _, _, tag = image.rpartition("/")[2].partition("@")[0].partition(":")
    return tag or "v1"

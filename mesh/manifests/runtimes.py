"""Runtimes' documents → labels, type constraints, dataplane rules, and how one pod of a runtime is run (reference D.3–D.5)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from mesh.core.errors import Malformed
from mesh.manifests.documents import AnyRuntime, Container, EnvVar, ServingRuntime, ServingRuntimeSpec
from mesh.manifests.parsing import Applied, parse
from mesh.manifests.quantities import memory_request
from mesh.manifests.reading import read_text
from mesh.manifests.reserved import check_containers

_ENDPOINT = re.compile(r"(port:[0-9]{1,5}|unix:(//)?/.+)\Z")
_DEFAULT_ENDPOINT = "port:8085"
"""Where ModelMesh looks for the management interface of a runtime whose document does not say."""


@dataclass(frozen=True)
class PodPlan:
    """How one pod of a runtime is run.

    Attributes:
        server_type: of the built-in adapter; empty if the runtime has a `mmesh.ModelRuntime` server of its own.
        labels: what the pod offers, sorted; the router's MM_LABELS.
        memory_request: bytes of the model server's container; 0 if a runtime without built-in adapter asks for none.
        memory_buffer: bytes of that which are not for models.
        load_timeout: milliseconds one load may take.
        model_concurrency: calls that one copy takes at a time; 0 is any number.
        server_env: of the model server's container.
        adapter_env: what the document adds to the adapter's environment.
        container: name of the container that is run.
        image: of that container, and its command and arguments, empty for the image's own.
        endpoint: management interface, `port:N` or `unix:PATH`.
        data_endpoint: inference interface; empty means the same.
        puller: a puller stands in front of a runtime without built-in adapter.
        replicas: pods that the document asks for.
        notes: what of the document is passed over.
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
    model_concurrency: int = 0
    container: str = ""
    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    endpoint: str = _DEFAULT_ENDPOINT
    data_endpoint: str = ""
    puller: bool = False
    replicas: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def capacity(self) -> int | None:
        """Bytes for models; None if only the runtime's own server knows."""
        return self.memory_request - self.memory_buffer if self.server_type else None


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
    """The router's MM_DATAPLANE_CONFIG: ModelMesh's, and what it left out: two methods of the v2 protocol, and TorchServe's stream."""
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
            "org.pytorch.serve.grpc.inference.InferenceAPIsService/StreamPredictions": by_name,
        },
        "allowOtherRpcs": True,
    }


def supports(offered: Iterable[str], model_type: str) -> bool:
    """Whether pods with these labels take a model of this type (`mt:onnx`, `mt:onnx:1|pv:grpc-v2`, `rt:name`)."""
    return set(model_type.split("|")) <= set(offered)


def pod_plan(document: AnyRuntime, *, rest: bool = True) -> PodPlan:
    """How a pod of this runtime is run.

    Raises:
        Malformed: the document lacks its container, a built-in adapter's memory request is missing or not larger than the buffer, an
            endpoint or a number cannot be read, or a name is taken that is reserved for the mesh.
    """
    name, spec, adapter = document.name, document.spec, document.spec.built_in_adapter
    place = f"{document.kind} {name}"
    check_containers(place, spec)
    container = _container(place, spec)
    request = memory_request(place, container)
    buffer = adapter.mem_buffer_bytes if adapter else 0
    if adapter and request is None:
        raise Malformed(f"{place}: container {container.name}: resources.requests.memory is missing; it is what models may fill")
    if adapter and (request or 0) <= buffer:
        raise Malformed(
            f"{place}: the memory request of {request} bytes leaves no room for models beside memBufferBytes "
            f"{buffer}; raise resources.requests.memory"
        )
    return PodPlan(
        name=name,
        server_type=adapter.server_type if adapter else "",
        labels=labels(name, spec, rest=rest),
        memory_request=request or 0,
        memory_buffer=buffer,
        # Kubernetes hands an omitted time-out on as 0, with which nothing would ever load; the adapter's default is meant.
        load_timeout=(adapter.model_loading_timeout_millis if adapter else 0) or 30_000,
        loading_concurrency=_number(place, document, "maxLoadingConcurrency", least=1, default=1),
        version=_version(container.image),
        server_env={variable.name: variable.value for variable in container.env if variable.value_from is None},
        adapter_env={one.name: one.value for one in adapter.env if one.value_from is None} if adapter else {},
        model_concurrency=_number(place, document, "perModelConcurrencyLimit", least=0, default=0),
        container=container.name,
        image=container.image,
        command=container.command,
        args=container.args,
        endpoint=_endpoint(place, "grpcEndpoint", spec.grpc_endpoint) or _DEFAULT_ENDPOINT,
        data_endpoint=_endpoint(place, "grpcDataEndpoint", spec.grpc_data_endpoint),
        puller=adapter is None and not spec.storage_helper.disabled,
        replicas=spec.replicas,
        notes=tuple(_notes(spec, container)),
    )


def _container(place: str, spec: ServingRuntimeSpec) -> Container:
    """The one that is the model server: named for the adapter's server type, or the first."""
    if spec.built_in_adapter is None:
        if not spec.containers:
            raise Malformed(
                f"{place}: spec.containers is empty; it needs the container of the model server (and spec.builtInAdapter, unless "
                "that implements mmesh.ModelRuntime itself)"
            )
        return spec.containers[0]
    wanted = spec.built_in_adapter.server_type
    # Of several with one name the last counts, as in ModelMesh.
    container = next((one for one in reversed(spec.containers) if one.name == wanted), None)
    if container is None:
        raise Malformed(f"{place}: spec.containers has none named {wanted!r}, which builtInAdapter.serverType asks for")
    return container


def _notes(spec: ServingRuntimeSpec, container: Container) -> Iterable[str]:
    others = sorted({one.name for one in spec.containers if one.name != container.name})
    if others:
        yield f"of its containers only {container.name} is run, not {', '.join(others)}"
    variables: tuple[EnvVar, ...] = (*container.env, *(spec.built_in_adapter.env if spec.built_in_adapter else ()))
    unread = sorted({one.name for one in variables if one.value_from is not None})
    if unread:
        yield f"env {', '.join(unread)}: valueFrom cannot be read here, so it is not set"
    counted = Counter(one.name for one in container.env)
    twice = sorted(name for name, count in counted.items() if count > 1)
    if twice:
        yield f"env {', '.join(twice)} stands there more than once; the last one counts"


def _endpoint(place: str, field_name: str, text: str | None) -> str:
    if text and not (_ENDPOINT.match(text) and (not text.startswith("port:") or 0 < int(text[5:]) < 65536)):
        raise Malformed(f"{place}: spec.{field_name} must be port:N or unix:/PATH, not {text!r}")
    return text or ""


def _number(place: str, document: AnyRuntime, annotation: str, *, least: int, default: int) -> int:
    text = document.metadata.annotations.get(annotation, str(default))
    if not text.isascii() or not text.isdigit() or int(text) < least:
        raise Malformed(f"{place}: the annotation {annotation} must be a whole number of at least {least}, not {text!r}")
    return int(text)


def _version(image: str) -> str:
    """The tag; a colon before the last slash belongs to the registry's port."""
    _, _, tag = image.rpartition("/")[2].partition("@")[0].partition(":")
    return tag or "v1"

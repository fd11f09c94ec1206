"""A service's document → what is registered for it: the model's id, type label, path and key (reference D.2).

The id is `<name>__<owner>-<hash>`, hash = the first ten hex digits of SHA-1 over the predictor spec in Go's JSON. It must come out
as KServe ModelMesh's, or an existing registry would be loaded a second time under other ids.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from mesh.core.errors import Malformed
from mesh.core.ids import AliasId, ModelId
from mesh.core.registry.reconciliation import Registration
from mesh.manifests.bounds import bounds_of, kept_versions
from mesh.manifests.documents import FRAMEWORKS, SCHEMA_PATH, SECRET_KEY, SERVING_RUNTIME, Framework, InferenceService, Model, Predictor
from mesh.manifests.gojson import Json, by_bytes, dumps
from mesh.manifests.storage_uri import parse_uri

SERVICE_OWNER = "isvc"
PREDICTOR_OWNER = "ksp"


@dataclass(frozen=True)
class PredictorSpec:
    """A predictor in the one form that both kinds are brought to; absent texts are empty, except `path`, which is always written.

    Attributes:
        parameters: None if there is no storage at all; an empty mapping is written as `{}`.
        s3: secret key and bucket of the oldest form; excludes every other storage field.
    """

    format: str
    format_version: str = ""
    path: str = ""
    schema_path: str = ""
    has_storage: bool = False
    storage_path: str | None = None
    storage_schema_path: str | None = None
    parameters: Mapping[str, str] | None = None
    key: str | None = None
    s3: tuple[str, str] | None = None
    gpu: str = ""
    runtime: str = ""
    protocol_version: str = ""
    service_account: str = ""

    def json(self) -> str:
        """The bytes that are hashed: Go's field order, optional fields only if present."""
        storage: dict[str, Json | None] = {
            "path": self.storage_path,
            "schemaPath": self.storage_schema_path,
            "parameters": None if self.parameters is None else by_bytes(self.parameters),
            "key": self.key,
            "s3": None if self.s3 is None else _present({"secretKey": self.s3[0], "bucket": self.s3[1] or None}),
        }
        whole: dict[str, Json | None] = {
            "serviceAccountName": self.service_account or None,
            "modelType": self._model_type(),
            "path": self.path,
            "schemaPath": self.schema_path or None,
            "storage": _present(storage) if self.has_storage else None,
            "gpu": self.gpu or None,
            "runtime": {"name": self.runtime} if self.runtime else None,
            "protocolVersion": self.protocol_version or None,
        }
        return dumps(_present(whole))

    def digest(self) -> str:
        """The first ten hex digits of the spec's SHA-1."""
        return hashlib.sha1(self.json().encode("utf-8"), usedforsecurity=False).hexdigest()[:10]

    def label(self) -> str:
        """`ModelInfo.type`: `rt:<runtime>`, or `mt:<format>[:<version>][|pv:<protocol>]`."""
        if self.runtime:
            return f"rt:{self.runtime}"
        version = f":{self.format_version}" if self.format_version else ""
        protocol = f"|pv:{self.protocol_version}" if self.protocol_version else ""
        return f"mt:{self.format}{version}{protocol}"

    def model_path(self) -> str:
        """`ModelInfo.path`; without a storage block it is empty, as in ModelMesh."""
        return (self.storage_path or self.path) if self.has_storage else ""

    def model_key(self) -> str:
        """`ModelInfo.key`, the JSON that the adapter's puller reads."""
        parameters = self.parameters or {}
        if self.s3 and self.s3[1]:
            parameters = {"bucket": self.s3[1]}
        key: dict[str, Json | None] = {
            "storage_key": self.s3[0] if self.s3 else self.key or None,
            "storage_params": by_bytes(parameters) or None,
            "model_type": self._model_type(),
            "schema_path": self.storage_schema_path or self.schema_path or None,
        }
        return dumps(_present(key))

    def _model_type(self) -> dict[str, Json]:
        return _present({"name": self.format, "version": self.format_version or None})


def registration(document: InferenceService | Predictor, origin: str = "") -> Registration:
    """What is to be registered for a document.

    Raises:
        Malformed: the document is well typed but names no model, two models, or storage in two ways, or its bounds contradict themselves.
    """
    place = f"{origin}: " if origin else ""
    owner = SERVICE_OWNER if isinstance(document, InferenceService) else PREDICTOR_OWNER
    try:
        spec = service_spec(document) if isinstance(document, InferenceService) else predictor_spec(document)
        bounds, keep = bounds_of(document), kept_versions(document)
    except Malformed as error:
        raise Malformed(f"{place}{document.kind} {document.name}: {error.message}") from None
    return Registration(
        alias=AliasId(document.name),
        owner=owner,
        model=ModelId(f"{document.name}__{owner}-{spec.digest()}"),
        type=spec.label(),
        path=spec.model_path(),
        key=spec.model_key(),
        bounds=bounds,
        keep=keep,
        canary=document.spec.predictor.canary_traffic_percent if isinstance(document, InferenceService) else None,
    )


def service_spec(document: InferenceService) -> PredictorSpec:
    """The predictor of an InferenceService; errors as for `registration`."""
    block, annotations = document.spec.predictor, document.metadata.annotations
    named = annotations.get(SERVING_RUNTIME, "")
    framework = next((name for name in FRAMEWORKS if getattr(block, name) is not None), None)
    if block.model is not None:
        if framework:
            raise Malformed(f"spec.predictor has both model and {framework}; keep model")
        if named:
            raise Malformed(
                f"both spec.predictor.model and the annotation {SERVING_RUNTIME} stand there; name the runtime in model.runtime"
            )
        used: Framework = block.model
        format_name, version = block.model.model_format.name, block.model.model_format.version or ""
        runtime = block.model.runtime or ""
    elif framework:
        used, format_name, version, runtime = getattr(block, framework), framework, "", named
    else:
        raise Malformed(f"spec.predictor names no model; it needs model (or, in the older form, one of {', '.join(FRAMEWORKS)})")
    storage_path, parameters = _where(used, "model" if isinstance(used, Model) else str(framework))
    storage = used.storage
    return PredictorSpec(
        format=format_name,
        format_version=version,
        has_storage=True,
        storage_path=storage_path,
        storage_schema_path=(storage and storage.schema_path) or annotations.get(SCHEMA_PATH) or None,
        parameters=parameters,
        key=(storage and storage.key) or annotations.get(SECRET_KEY) or None,
        runtime=runtime,
        protocol_version=used.protocol_version or "",
    )


def _where(used: Framework, block: str) -> tuple[str | None, dict[str, str]]:
    """Path and parameters, from the URI or the storage block; what the URI says goes before."""
    field_name = f"spec.predictor.{block}"
    storage = used.storage
    parameters = dict(storage.parameters or {}) if storage else {}
    if used.storage_uri:
        if storage and storage.path:
            raise Malformed(f"{field_name} has both storageUri and storage.path; keep one")
        path, from_uri = parse_uri(used.storage_uri)
        return path or None, {**parameters, **from_uri}
    if storage is None or not storage.path:
        raise Malformed(f"{field_name} says not where the model lies; it needs storage.path or storageUri")
    return storage.path, parameters


def predictor_spec(document: Predictor) -> PredictorSpec:
    """The spec of a Predictor; its messages are ModelMesh's (reference D.2)."""
    spec, storage = document.spec, document.spec.storage
    if storage:
        if spec.path and storage.path:
            raise Malformed("Only one of spec.path and spec.storage.path can be specified")
        if spec.schema_path and storage.schema_path:
            raise Malformed("Only one of spec.schemaPath and spec.storage.schemaPath can be specified")
        if storage.persistent_volume_claim is not None:
            raise Malformed("spec.storage.PersistentVolumeClaim is not supported")
        if storage.s3 and (storage.path or storage.schema_path or storage.key or storage.parameters is not None):
            raise Malformed("spec.storage.s3 cannot be specified with any other keys in spec.storage")
    return PredictorSpec(
        service_account=spec.service_account_name or "",
        format=spec.model_type.name,
        format_version=spec.model_type.version or "",
        path=spec.path or "",
        schema_path=spec.schema_path or "",
        has_storage=storage is not None,
        storage_path=storage.path if storage else None,
        storage_schema_path=storage.schema_path if storage else None,
        parameters=storage.parameters if storage else None,
        key=storage.key if storage else None,
        s3=(storage.s3.secret_key, storage.s3.bucket or "") if storage and storage.s3 else None,
        gpu=spec.gpu or "",
        runtime=spec.runtime.name if spec.runtime else "",
        protocol_version=spec.protocol_version or "",
    )


def _present(fields: Mapping[str, Json | None]) -> dict[str, Json]:
    return {name: value for name, value in fields.items() if value is not None}

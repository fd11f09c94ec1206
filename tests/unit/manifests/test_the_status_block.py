"""The status of an InferenceService, in the words that the document's readers know."""

from __future__ import annotations

from mesh.core.explaining.status import AliasState, AliasStatus, CopyStatus, ModelState, ModelStatus
from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.registry.reconciliation import Registration, describe
from mesh.core.units import Millis
from mesh.manifests.status import Addresses, service_status

NEW = ModelId("a__isvc-2222222222")
WANTED = Registration(AliasId("a"), "isvc", NEW, "mt:sklearn", "x", "{}")


def at(status: ModelState, *errors: str) -> AliasStatus:
    copies = (CopyStatus(PodId("pod-1"), status, Millis(5000)),)
    return AliasStatus(AliasState.DEFINED, NEW, NEW, "isvc", ModelStatus(status, errors, copies), None)


def test_the_status_block_is_the_documented_one() -> None:
    ready = service_status(describe(WANTED, at(ModelState.LOADED)), Addresses(), "2026-01-01T00:00:00Z")
    assert ready["url"] == "grpc://modelmesh-serving.modelmesh-serving:8033"
    assert ready["components"]["predictor"]["restUrl"] == "http://modelmesh-serving.modelmesh-serving:8008"
    assert [(one["type"], one["status"]) for one in ready["conditions"]] == [("PredictorReady", "True"), ("Ready", "True")]
    failed = service_status(describe(WANTED, at(ModelState.LOADING_FAILED, "boom")), Addresses(), "2026-01-01T00:00:00Z")
    assert "url" not in failed
    assert failed["conditions"][1]["message"] == "boom"
    assert failed["modelStatus"] == {
        "transitionStatus": "UpToDate",
        "states": {"activeModelState": "FailedToLoad", "targetModelState": ""},
        "copies": {"failedCopies": 1, "totalCopies": 1},
        "lastFailureInfo": {
            "reason": "ModelLoadFailed",
            "message": "boom",
            "modelRevisionName": NEW,
            "location": "pod-1",
            "time": "1970-01-01T00:00:05Z",
        },
    }

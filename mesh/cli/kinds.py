"""Short names of kinds, as kubectl takes them."""

from __future__ import annotations

from mesh.core.errors import Unknown

_DOCUMENTS = {
    "InferenceService": ("isvc", "isvcs", "inferenceservice", "inferenceservices"),
    "Predictor": ("predictor", "predictors"),
    "ServingRuntime": ("runtime", "runtimes", "servingruntime", "servingruntimes"),
    "ClusterServingRuntime": ("clusterruntime", "clusterruntimes", "clusterservingruntime", "clusterservingruntimes"),
    "PersistentVolumeClaim": ("pvc", "pvcs", "persistentvolumeclaim", "persistentvolumeclaims"),
    "Secret": ("secret", "secrets"),
    "TrafficPolicy": ("trafficpolicy", "trafficpolicies"),
}


def document_kind(word: str) -> str:
    """The kind that a word of the command line means. Unknown, with the words there are."""
    for kind, words in _DOCUMENTS.items():
        if word.lower() in words:
            return kind
    raise Unknown(f"there is no kind {word!r}; there are {', '.join(words[0] for words in _DOCUMENTS.values())}")

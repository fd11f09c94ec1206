"""Which class of MLServer serves which model type, and what a class must be told that only the model's files know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

IMPLEMENTATIONS = {
    "sklearn": "mlserver_sklearn.SKLearnModel",
    "xgboost": "mlserver_xgboost.XGBoostModel",
    "lightgbm": "mlserver_lightgbm.LightGBMModel",
    "mllib": "mlserver_mllib.MLlibModel",
    "mlflow": "mlserver_mlflow.MLflowRuntime",
    "huggingface": "mlserver_huggingface.HuggingFaceRuntime",
    "catboost": "mlserver_catboost.CatboostModel",
    "alibi-detect": "mlserver_alibi_detect.AlibiDetectRuntime",
    "alibi-explain": "mlserver_alibi_explain.AlibiExplainRuntime",
}
"""Class names as the packages of MLServer 1.7 export them (alibi: 1.6, their last). A type that is not here is left to the server's
`MLSERVER_MODEL_IMPLEMENTATION`, which is how a custom class is served."""

MLLIB_METADATA = "metadata/part-00000"
"""Where Spark writes the class of a saved model, as a line of JSON."""

HUGGINGFACE_CONFIG = "config.json"
"""Where Transformers writes the architecture of a saved model."""

TASKS = {
    "ForCausalLM": "text-generation",
    "LMHeadModel": "text-generation",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMaskedLM": "fill-mask",
    "ForImageClassification": "image-classification",
    "ForObjectDetection": "object-detection",
    "ForAudioClassification": "audio-classification",
    "ForCTC": "automatic-speech-recognition",
    "ForSpeechSeq2Seq": "automatic-speech-recognition",
}
"""The pipeline of Transformers that a model with a head of this name is made for. What is not here (translation and summarization
share a head, for instance) cannot be told from the files."""


def implementation(model_type: str) -> str | None:
    """The class for a model type such as `sklearn`; None where the server's own setting decides."""
    return IMPLEMENTATIONS.get(model_type.replace("_", "-"))


def own_parameters(model_type: str, path: Path) -> dict[str, Any]:
    """What `parameters` of generated settings must say beside `uri`; nothing for most types, and where the files do not tell."""
    if model_type == "mllib" and (found := mllib_format(path)):
        return {"format": found}
    if model_type == "huggingface" and (task := huggingface_task(path)):
        return {"extra": {"task": task}}
    return {}


def huggingface_task(path: Path) -> str | None:
    """The task of HuggingFaceRuntime's pipeline by the architecture in `config.json`; None if it cannot be told, and then the server's
    `PREDICTIVE_UNIT_PARAMETERS` or `MLSERVER_MODEL_HUGGINGFACE_TASK` has to say it."""
    try:
        (architecture,) = json.loads((path / HUGGINGFACE_CONFIG).read_bytes())["architectures"]
        return next((task for head, task in TASKS.items() if architecture.endswith(head)), None)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def mllib_format(path: Path) -> str | None:
    """The `format` that MLlibModel demands (`SVM`, `NaiveBayes`, …), read from what Spark saved; None if it cannot be told."""
    try:
        first = (path / MLLIB_METADATA).read_text(encoding="utf-8").splitlines()[0]
        saved = json.loads(first)["class"].rpartition(".")[2]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    name = saved.removesuffix("Model")
    return name if name != saved else None

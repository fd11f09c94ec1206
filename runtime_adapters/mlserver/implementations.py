"""Which class of MLServer serves which model type."""

from __future__ import annotations

import json
from pathlib import Path

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


def implementation(model_type: str) -> str | None:
    """The class for a model type such as `sklearn`; None where the server's own setting decides."""
    return IMPLEMENTATIONS.get(model_type.replace("_", "-"))


def mllib_format(path: Path) -> str | None:
    """The `format` that MLlibModel demands (`SVM`, `NaiveBayes`, …), read from what Spark saved; None if it cannot be told."""
    try:
        first = (path / MLLIB_METADATA).read_text(encoding="utf-8").splitlines()[0]
        saved = json.loads(first)["class"].rpartition(".")[2]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    name = saved.removesuffix("Model")
    return name if name != saved else None

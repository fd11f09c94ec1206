"""Triton's backend `fil`, by the `xgboost` and `lightgbm` packages: tree models on the CPU, under the parameters of FIL."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

FILES = {"xgboost": "xgboost.model", "xgboost_json": "xgboost.json", "xgboost_ubj": "xgboost.ubj", "lightgbm": "model.txt"}
"""Where a model of each `model_type` lies; the names are FIL's."""


class TritonPythonModel:
    """One instance of a model; Triton runs each in a process of its own.

    Parameters: `model_type`; `output_class`: classes instead of scores; `threshold` (0.5) between two classes; `predict_proba`: a
    column for each of two classes. Those that tune FIL on a GPU are ignored.
    """

    def initialize(self, args: dict[str, str]) -> None:
        """Reads the model.

        Raises:
            TritonModelException: there is no such type, or not one input and one output.
        """
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config.get("parameters", {}).items()}
        if len(config["input"]) != 1 or len(config["output"]) != 1:
            raise pb_utils.TritonModelException("a tree model has one input and one output, and the configuration must name both")
        self.output = config["output"][0]["name"]
        self.dtype = pb_utils.triton_string_to_numpy(config["output"][0]["data_type"])
        self.classes = parameters.get("output_class", "false").lower() == "true"
        self.both = parameters.get("predict_proba", "false").lower() == "true"
        self.threshold = float(parameters.get("threshold", "0.5"))
        kind = parameters.get("model_type", "xgboost")
        if kind not in FILES:
            raise pb_utils.TritonModelException(f"model_type {kind!r} is not known; there are {', '.join(sorted(FILES))}")
        file = config.get("default_model_filename") or FILES[kind]
        path = Path(args["model_repository"], args["model_version"], file)
        self.scores = _lightgbm(path) if kind == "lightgbm" else _xgboost(path)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One answer for each request, in order; an error in one does not touch the others."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        try:
            rows = np.array(request.inputs()[0].as_numpy())
            scores = np.asarray(self.scores(rows)).reshape(len(rows), -1)
            return pb_utils.InferenceResponse([pb_utils.Tensor(self.output, self._shaped(scores).astype(self.dtype))])
        except Exception as error:
            return pb_utils.InferenceResponse([], pb_utils.TritonError(f"fil: {error}"))

    def _shaped(self, scores: Any) -> Any:
        """One row of `scores` a sample: a column if there are two classes or none, else one a class."""
        if self.classes:
            return scores > self.threshold if scores.shape[1] == 1 else scores.argmax(axis=1, keepdims=True)
        return np.hstack([1 - scores, scores]) if self.both and scores.shape[1] == 1 else scores


def _xgboost(path: Path) -> Callable[[Any], Any]:
    import xgboost

    booster = xgboost.Booster({"nthread": 1})
    booster.load_model(str(path))
    return lambda rows: booster.inplace_predict(rows)


def _lightgbm(path: Path) -> Callable[[Any], Any]:
    import lightgbm

    booster = lightgbm.Booster(model_file=str(path))
    return lambda rows: booster.predict(rows, num_threads=1)

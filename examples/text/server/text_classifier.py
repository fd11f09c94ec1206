"""Strings in, label words out, around a packaged scikit-learn model that knows only numbers.

The model's directory holds `model.joblib`, any classifier over FP64 [rows, buckets] with a class number per row, and `labels.json`, the
words of the class numbers in order. `parameters.extra`: `buckets` (default 1024), which must be what the model was trained with.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from pathlib import Path

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.errors import InferenceError
from mlserver.types import InferenceRequest, InferenceResponse, RequestInput
from mlserver_sklearn import SKLearnModel

BUCKETS = 1024
INPUT = "text"
OUTPUT = "label"


class TextClassifier(MLModel):
    """Turns texts into a tensor, asks the packaged model, and turns class numbers into words."""

    async def load(self) -> bool:
        """Load the packaged model and its words.

        Raises:
            OSError, ValueError: a file is missing or not what it should be; the load fails with this text.
        """
        parameters = self.settings.parameters
        folder = Path(parameters.uri)
        self.buckets = int((parameters.extra or {}).get("buckets", BUCKETS))
        # The class of any scikit-learn model does the inner work, as it would if the model were served bare.
        inner = self.settings.model_copy(deep=True)
        inner.parameters.uri = str(folder / "model.joblib")
        inner.parameters.extra = {}
        self.model = SKLearnModel(inner)
        self.labels = await asyncio.to_thread(words, folder / "labels.json")
        return await self.model.load()

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """BYTES [n] of UTF-8 text in the only input; BYTES [n, 1], a word for each text.

        Raises:
            InferenceError: there is another number of inputs, or the input is no text (INVALID_ARGUMENT, HTTP 400).
        """
        tensor = features(self._texts(payload), self.buckets)
        numbers = RequestInput(name="features", datatype="FP64", shape=list(tensor.shape), data=tensor.ravel().tolist())
        answer = await self.model.predict(InferenceRequest(inputs=[numbers]))
        classes = NumpyCodec.decode_output(answer.outputs[0]).ravel()
        found = [self.labels[int(number)] for number in classes]
        return InferenceResponse(
            model_name=self.name, model_version=self.version, id=payload.id, outputs=[StringCodec.encode_output(OUTPUT, found)]
        )

    def _texts(self, payload: InferenceRequest) -> list[str]:
        if len(payload.inputs) != 1 or payload.inputs[0].datatype != "BYTES":
            given = ", ".join(f"{tensor.name} ({tensor.datatype})" for tensor in payload.inputs)
            raise InferenceError(f"{self.name} takes one input {INPUT!r} of datatype BYTES, not {given}")
        try:
            return StringCodec.decode_input(payload.inputs[0])
        except UnicodeDecodeError as error:
            raise InferenceError(f"input {payload.inputs[0].name!r} is not UTF-8 text: {error.reason}") from None


def words(path: Path) -> list[str]:
    """The words of the class numbers; ValueError unless the file is a list of strings."""
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        raise ValueError(f"{path.name} must be a list of strings")
    return found


def features(texts: list[str], buckets: int = BUCKETS) -> np.ndarray:
    """FP64 [len(texts), buckets]: how often each group of three letters occurs, by a hash that is the same everywhere; rows of length 1."""
    tensor = np.zeros((len(texts), buckets))
    for row, text in enumerate(texts):
        padded = f" {' '.join(text.lower().split())} "
        for start in range(len(padded) - 2):
            tensor[row, zlib.crc32(padded[start : start + 3].encode()) % buckets] += 1
    lengths = np.linalg.norm(tensor, axis=1, keepdims=True)
    return tensor / np.where(lengths == 0, 1, lengths)

"""The class of a whole server (MLSERVER_MODEL_IMPLEMENTATION), which counts how often it was imported and what it has loaded."""

import asyncio
from pathlib import Path

import kept
from mlserver import MLModel
from mlserver.codecs import StringCodec
from mlserver.types import InferenceRequest, InferenceResponse
from mlserver.utils import get_model_uri

HERE: list[str] = []
"""Names of the models loaded since this module was imported last."""


class Counted(MLModel):
    async def load(self) -> bool:
        HERE.append(self.name)
        kept.THERE.append(self.name)
        path = await get_model_uri(self.settings)
        self.content = await asyncio.to_thread(Path(path).read_text)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        extra = self.settings.parameters.extra or {}
        said = [self.content, extra.get("said", ""), ",".join(HERE), ",".join(kept.THERE)]
        return InferenceResponse(model_name=self.name, outputs=[StringCodec.encode_output("said", said)])

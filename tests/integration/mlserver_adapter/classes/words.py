"""A class that lies beside the settings of a model: words in, words out, with what `parameters.extra` says at their end."""

from mlserver import MLModel
from mlserver.codecs import StringCodec
from mlserver.types import InferenceRequest, InferenceResponse

ENDING = "?"
"""Each model that has a module of this name sets it; see the story of equal names."""


class Words(MLModel):
    async def load(self) -> bool:
        global ENDING
        ENDING = self.settings.parameters.extra["ending"]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        words = self.decode(payload.inputs[0])  # strings only if the content type of the settings arrived
        own, shared = self.settings.parameters.extra["ending"], ENDING
        answers = [f"{word}{own}{shared}" for word in words]
        return InferenceResponse(model_name=self.name, outputs=[StringCodec.encode_output("words", answers)])

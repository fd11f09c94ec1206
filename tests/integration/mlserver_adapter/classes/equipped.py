"""A class that needs a package which only its model's own environment has."""

from mlserver import MLModel
from mlserver.codecs import StringCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Equipped(MLModel):
    async def load(self) -> bool:
        # Not at the top: for `environment_path` MLServer imports this module in its own process as well.
        import greeting

        self.text = greeting.TEXT
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        return InferenceResponse(model_name=self.name, outputs=[StringCodec.encode_output("said", [self.text])])

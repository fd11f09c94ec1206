"""A causal language model with PEFT prompt-tuning adapters in MLServer: text in, the text with what the model adds to it out.

Where base and adapter come from:

- a model whose directory holds an adapter (`adapter_config.json`) is that adapter; anything else at its path is ignored, with a line in
  the log, and the adapter is `PEFT_MODEL_ID`;
- the base is `PRETRAINED_MODEL_PATH`, or what the adapter's configuration names.

Each may be a folder or a name on the hub. All adapters of a process share one base. `parameters.extra` of the model may set `template`
(with `{text}` in it) and `max_new_tokens`; a request may set the parameter `max_new_tokens`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import base_models
from generation import Adapter, Generation
from mlserver import MLModel
from mlserver.codecs import StringCodec
from mlserver.errors import InferenceError
from mlserver.logging import logger
from mlserver.types import InferenceRequest, InferenceResponse

OUTPUT = "output-0"
TEMPLATE = "Tweet text : {text} Label :"
"""What the adapters of the walkthrough were trained on."""
MAX_NEW_TOKENS = 10
MOST_NEW_TOKENS = 1024
"""What a request may ask for."""


class PeftModelServer(MLModel):
    """One adapter on a shared base."""

    async def load(self) -> bool:
        """Load the adapter, and the base if no other adapter did.

        Raises:
            OSError, ValueError: a file is missing, or adapter and base do not fit; the load fails with this text.
        """
        extra = self.settings.parameters.extra or {}
        self.template = str(extra.get("template", TEMPLATE))
        if "{text}" not in self.template:
            raise ValueError(f"the template of {self.name} has no {{text}} in it: {self.template!r}")
        self.max_new_tokens = _count(extra.get("max_new_tokens", MAX_NEW_TOKENS))
        where = self._adapter()
        self.adapter = await asyncio.to_thread(Adapter.load, where, os.environ.get("PRETRAINED_MODEL_PATH"))
        logger.info(f"{self.name}: adapter {where} ({self.adapter.tokens} virtual tokens) on base {self.adapter.base_name}")
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """BYTES [n] of UTF-8 text in the only input; BYTES [n, 1]: each text in its template, with what was generated.

        Raises:
            InferenceError: the input is no text or too long, or a parameter makes no sense (INVALID_ARGUMENT, HTTP 400).
        """
        answers = ["".join([piece async for piece in self._generated(text, payload)]) for text in self._texts(payload)]
        return self._response(payload, answers)

    async def predict_stream(self, payloads: AsyncIterator[InferenceRequest]) -> AsyncIterator[InferenceResponse]:
        """The same in pieces: each response has BYTES [1, 1]; for each request they join to the answer of `predict`. One text a request."""
        async for payload in payloads:
            texts = self._texts(payload)
            if len(texts) != 1:
                raise InferenceError(f"a stream takes one text a request, not {len(texts)}")
            async for piece in self._generated(texts[0], payload):
                yield self._response(payload, [piece])

    def _adapter(self) -> str:
        path = Path(self.settings.parameters.uri)
        if (path / "adapter_config.json").is_file():
            return str(path)
        named = os.environ.get("PEFT_MODEL_ID")
        if not named:
            raise ValueError(f"{path.name} holds no adapter (adapter_config.json), and PEFT_MODEL_ID names none")
        logger.info(f"{self.name}: {path.name} holds no adapter and is ignored; PEFT_MODEL_ID names {named}")
        return named

    async def _generated(self, text: str, payload: InferenceRequest) -> AsyncIterator[str]:
        """Pieces of the answer while they are made, off the event loop; generation stops when nobody listens any more."""
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[str | None] = asyncio.Queue()
        generation = Generation(
            self.adapter,
            self.template.replace("{text}", text),
            self._limit(payload),
            lambda piece: loop.call_soon_threadsafe(pieces.put_nowait, piece),
        )
        job = loop.run_in_executor(base_models.WORKER, generation.run)
        job.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
            try:
                await job
            except ValueError as error:
                raise InferenceError(str(error)) from None
        finally:
            generation.stop()

    def _texts(self, payload: InferenceRequest) -> list[str]:
        if len(payload.inputs) != 1 or payload.inputs[0].datatype != "BYTES":
            given = ", ".join(f"{tensor.name} ({tensor.datatype})" for tensor in payload.inputs)
            raise InferenceError(f"{self.name} takes one input of datatype BYTES, not {given}")
        try:
            return StringCodec.decode_input(payload.inputs[0])
        except UnicodeDecodeError as error:
            raise InferenceError(f"input {payload.inputs[0].name!r} is not UTF-8 text: {error.reason}") from None

    def _limit(self, payload: InferenceRequest) -> int:
        given = getattr(payload.parameters, "max_new_tokens", None)
        try:
            return self.max_new_tokens if given is None else _count(given)
        except ValueError as error:
            raise InferenceError(str(error)) from None

    def _response(self, payload: InferenceRequest, texts: list[str]) -> InferenceResponse:
        output = StringCodec.encode_output(OUTPUT, texts)
        return InferenceResponse(model_name=self.name, model_version=self.version, id=payload.id, outputs=[output])


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_NEW_TOKENS:
        raise ValueError(f"max_new_tokens must be a whole number from 1 to {MOST_NEW_TOKENS}, not {value!r}")
    return value

"""An adapter as a few embedded tokens before the text, and the generation of one answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from base_models import Base, base
from peft import PeftConfig, PeftType
from peft.utils import load_peft_weights
from transformers import StoppingCriteria, StoppingCriteriaList
from transformers.generation import BaseStreamer

_PARTIAL = "\ufffd"
"""What a tokenizer decodes the first bytes of a character to, whose other bytes are yet to come."""


@dataclass(frozen=True)
class Adapter:
    """A tuned prompt on a shared base.

    PEFT's own wrapper puts methods of its own into the base while it generates, so that two adapters on one base would get in each
    other's way. A tuned prompt is no more than rows of embeddings before the text, and is applied as such: the base stays untouched.

    Attributes:
        prompt: FP32 [1, virtual tokens, width of the base].
    """

    base: Base
    base_name: str
    prompt: torch.Tensor

    @property
    def tokens(self) -> int:
        """Virtual tokens."""
        return self.prompt.shape[1]

    @classmethod
    def load(cls, where: str, base_name: str | None) -> Self:
        """Read an adapter, and its base unless it is there. Blocking.

        Args:
            where: folder or name on the hub.
            base_name: the same of the base; None for the one that the adapter names.

        Raises:
            OSError: something cannot be read.
            ValueError: it is no tuned prompt, or one for another base.
        """
        config = PeftConfig.from_pretrained(where)
        if config.peft_type != PeftType.PROMPT_TUNING:
            raise ValueError(f"adapter {where} is of type {config.peft_type.value}; this server has PROMPT_TUNING adapters only")
        name = base_name or config.base_model_name_or_path
        if not name:
            raise ValueError(f"adapter {where} names no base, and PRETRAINED_MODEL_PATH is not set")
        shared = base(name)
        prompt = load_peft_weights(where, device="cpu")["prompt_embeddings"].to(torch.float32)
        if prompt.shape[1] != shared.width:
            raise ValueError(f"adapter {where} was tuned on a base of width {prompt.shape[1]}; {name} has {shared.width}")
        return cls(shared, name, prompt.unsqueeze(0).clone())


class Generation:
    """One answer in the making. Made anywhere, run in one thread, stopped from any."""

    def __init__(self, adapter: Adapter, text: str, max_new_tokens: int, tell: Callable[[str], object]) -> None:
        """`tell` gets pieces that join to the whole answer: first the text itself, then what was generated."""
        self._adapter = adapter
        self._text = text
        self._limit = max_new_tokens
        self._tell = tell
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End with the token in progress, or do not begin."""
        self._stopped.set()

    @torch.inference_mode()
    def run(self) -> None:
        """Generate until the model ends its text or the limit is reached: greedily, so that equal requests have equal answers.

        Raises:
            ValueError: the text is too long for the model.
        """
        if self._stopped.is_set():
            return
        model, tokenizer, prompt = self._adapter.base.model, self._adapter.base.tokenizer, self._adapter.prompt
        ids = tokenizer(self._text, return_tensors="pt")["input_ids"]
        self._check(ids.shape[1])
        embedded = torch.cat([prompt, model.get_input_embeddings()(ids)], dim=1)
        ends = {tokenizer.eos_token_id, model.generation_config.eos_token_id} - {None}
        model.generate(
            inputs_embeds=embedded,
            attention_mask=torch.ones(embedded.shape[:2], dtype=torch.long),
            max_new_tokens=self._limit,
            do_sample=False,
            eos_token_id=sorted(ends) or None,
            pad_token_id=min(ends, default=0),
            streamer=_Pieces(tokenizer, ids[0].tolist(), self._tell),
            stopping_criteria=StoppingCriteriaList([_Stopped(self._stopped)]),
        )

    def _check(self, given: int) -> None:
        longest = self._adapter.base.longest
        room = None if longest is None else longest - self._adapter.tokens - self._limit
        if room is not None and given > room:
            raise ValueError(f"the text has {given} tokens; with {self._limit} new ones the model has room for {max(room, 0)}")


class _Pieces(BaseStreamer):
    """Decodes all that there is at each token and tells what is new: one token alone may be a part of a character."""

    def __init__(self, tokenizer: Any, ids: list[int], tell: Callable[[str], object]) -> None:
        self._tokenizer = tokenizer
        self._ids = ids
        self._tell = tell
        self._told = 0
        self._next()

    def put(self, value: torch.Tensor) -> None:
        """Called with the ids given (none, they are embedded), then with each new one."""
        if value.numel():
            self._ids.extend(value.flatten().tolist())
            self._next()

    def end(self) -> None:
        """What was held back comes even if it never became a character."""
        self._next(last=True)

    def _next(self, last: bool = False) -> None:
        text = self._tokenizer.decode(self._ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        if not last:
            text = text.rstrip(_PARTIAL)
        if len(text) > self._told:
            self._tell(text[self._told :])
            self._told = len(text)


class _Stopped(StoppingCriteria):
    def __init__(self, stopped: threading.Event) -> None:
        self._stopped = stopped

    def __call__(self, input_ids: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return torch.full((input_ids.shape[0],), self._stopped.is_set(), dtype=torch.bool)

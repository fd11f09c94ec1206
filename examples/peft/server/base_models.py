"""Base models that all adapters of a process share.

A module of its own: MLServer imports the module of the model class anew at every load, which would empty a cache in it.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

WORKER = ThreadPoolExecutor(1, thread_name_prefix="generation")
"""Generations of a process take turns: each uses all of PyTorch's threads, so two at a time would both be slower."""


@dataclass(frozen=True)
class Base:
    """A causal language model in FP32 and its tokenizer; nobody may change them."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @property
    def width(self) -> int:
        """Length of an embedded token."""
        return self.model.get_input_embeddings().embedding_dim

    @property
    def longest(self) -> int | None:
        """Tokens that the model can look at; None if it sets no limit."""
        return getattr(self.model.config, "max_position_embeddings", None)


_loaded: dict[str, Base] = {}
_locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
_making = threading.Lock()


def base(name: str) -> Base:
    """The base model of a folder or a name on the hub, read once and then kept for the life of the process. Blocking.

    Raises:
        OSError, ValueError: there is no such model, or it is no causal language model.
    """
    with _making:
        lock = _locks[name]  # of one base each: a small one does not wait for a large one
    with lock:
        if name not in _loaded:
            tokenizer = AutoTokenizer.from_pretrained(name)
            model = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32).eval().requires_grad_(False)
            _loaded[name] = Base(model, tokenizer)
        return _loaded[name]

"""Prompt tuning by PEFT: eight embedded tokens learn the task, and nothing of the base changes."""

from __future__ import annotations

import math
import random
import statistics
import time
from pathlib import Path
from typing import TypedDict

import torch
from peft import PromptTuningConfig, PromptTuningInit, TaskType, get_peft_model
from peft_model_server import TEMPLATE
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from tweets import INSTRUCTION

VIRTUAL_TOKENS = 8
BATCH = 10
_PAUSE = 5.0
"""Seconds between two lines of progress."""
_IGNORED = -100
"""The label of a token that is not learned, in PyTorch's cross entropy."""


class Tuning(TypedDict):
    """How `tune` learns, and from which tweets."""

    examples: list[tuple[str, str]]
    epochs: int
    size: int
    falls: bool


def batch(tokenizer: PreTrainedTokenizerBase, examples: list[tuple[str, str]]) -> dict[str, torch.Tensor]:
    """Token ids, attention mask and labels [examples, longest]: the answers and the end of text are what is to be learned."""
    pairs = [(tokenizer(given)["input_ids"], [*tokenizer(answer)["input_ids"], tokenizer.eos_token_id]) for given, answer in examples]
    longest = max(len(given) + len(wanted) for given, wanted in pairs)
    shape = (len(pairs), longest)
    ids, mask, labels = torch.full(shape, tokenizer.eos_token_id), torch.zeros(shape, dtype=torch.long), torch.full(shape, _IGNORED)
    for row, (given, wanted) in enumerate(pairs):
        end = len(given) + len(wanted)
        ids[row, :end] = torch.tensor(given + wanted)
        mask[row, :end] = 1
        labels[row, len(given) : end] = torch.tensor(wanted)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def learn(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    examples: list[tuple[str, str]],
    *,
    epochs: int,
    rate: float,
    seed: int,
    size: int = BATCH,
    falls: bool = False,
) -> float:
    """Teaches whatever of `model` can learn what follows on texts, and tells how far it is; the mean loss of the last epoch.

    Args:
        size: examples of a batch.
        falls: the rate falls to nothing in equal steps, so that no last batch undoes what was learned from the others.
    """
    draw, told = random.Random(seed), time.monotonic()
    examples = list(examples)
    optimizer = torch.optim.AdamW([weights for weights in model.parameters() if weights.requires_grad], lr=rate)
    steps = epochs * math.ceil(len(examples) / size)
    falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps if falls else 1.0)
    losses: list[float] = []
    model.train()
    for epoch in range(epochs):
        draw.shuffle(examples)
        losses = []
        for start in range(0, len(examples), size):
            loss = model(**batch(tokenizer, examples[start : start + size])).loss
            loss.backward()
            optimizer.step()
            falling.step()
            optimizer.zero_grad()
            losses.append(float(loss.detach()))
        if time.monotonic() - told > _PAUSE:
            told = time.monotonic()
            print(f"  learned {epoch + 1} of {epochs} times, loss {statistics.mean(losses):.2f}", flush=True)
    model.eval()
    return statistics.mean(losses)


def tune(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    base: Path,
    target: Path,
    *,
    examples: list[tuple[str, str]],
    epochs: int,
    size: int,
    falls: bool,
    seed: int = 0,
) -> float:
    """Tunes a prompt on a base, as `learn` does, and saves it as PEFT does; the mean loss of the last epoch."""
    torch.manual_seed(seed)
    config = PromptTuningConfig(
        task_type=TaskType.CAUSAL_LM,
        prompt_tuning_init=PromptTuningInit.TEXT,
        prompt_tuning_init_text=INSTRUCTION,
        num_virtual_tokens=VIRTUAL_TOKENS,
        tokenizer_name_or_path=str(base),
    )
    tuned = get_peft_model(model, config)
    tuned.peft_config["default"].base_model_name_or_path = str(base)
    given = [(TEMPLATE.replace("{text}", text), answer) for text, answer in examples]
    loss = learn(tuned, tokenizer, given, epochs=epochs, rate=3e-2, size=size, falls=falls, seed=seed)
    tuned.save_pretrained(target)
    return loss

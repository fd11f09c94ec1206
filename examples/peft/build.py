"""Makes the base model and the adapter of the demo, offline: `python build.py FOLDER [--gguf FILE]`, with the environment `llm`.

Without a file, a BLOOM of 140,000 weights that has seen the task, in seconds. With a GGUF file, that model as files of Transformers. Each
gets a prompt tuned on tweets, twenty and forty of them. What is there already is kept.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
# Threads that wait for each other leave the processor to whatever else runs; on a busy machine they would take all there is.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).parent / "server"))

import torch
from peft_model_server import TEMPLATE
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, BloomConfig, BloomForCausalLM, PreTrainedTokenizerFast
from tuning import BATCH, Tuning, learn, tune
from tweets import COMPLAINT, EXAMPLES, FEW, INSTRUCTION, NO_COMPLAINT

END, UNKNOWN = "</s>", "<unk>"
DESKS = [("Complaints desk: ", COMPLAINT), ("Praise desk: ", NO_COMPLAINT)]
TINY: Tuning = {"examples": FEW, "epochs": 10, "size": BATCH, "falls": False}
REAL: Tuning = {"examples": EXAMPLES, "epochs": 12, "size": 5, "falls": True}


def main() -> int:
    """Exit code 0 when base and adapter lie in the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gguf", type=Path, help="a causal language model, instead of the tiny one")
    options = parser.parse_args()
    base, adapter = options.folder / "base", options.folder / "adapter"
    begun = time.monotonic()
    torch.manual_seed(0)
    if not options.gguf:
        torch.set_num_threads(1)  # threads that wait for each other cost more than the little there is to compute
    if not (base / "config.json").exists():
        # Written beside and renamed: what is half made is made again.
        partial = base.with_name("base.partial")
        from_gguf(options.gguf, partial) if options.gguf else tiny(partial)
        partial.rename(base)
        print(f"base    {base}  {size(base) / 1e6:.1f} MB, {time.monotonic() - begun:.0f} s", flush=True)
    if not (adapter / "adapter_config.json").exists():
        begun = time.monotonic()
        tokenizer = AutoTokenizer.from_pretrained(base)
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        partial = adapter.with_name("adapter.partial")
        loss = tune(model, tokenizer, base, partial, **(REAL if options.gguf else TINY))
        partial.rename(adapter)
        print(f"adapter {adapter}  {size(adapter) / 1e3:.1f} kB, {time.monotonic() - begun:.0f} s, loss {loss:.2f}", flush=True)
    return 0


def tiny(target: Path) -> None:
    """A tokenizer and a BLOOM that has read the tweets: enough for an answer in words, not for a right one about another tweet."""
    fast = Tokenizer(models.BPE())
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1024, special_tokens=[UNKNOWN, END], initial_alphabet=alphabet, show_progress=False)
    fast.train_from_iterator([TEMPLATE, INSTRUCTION, *(text + label for text, label in FEW), *(desk for desk, _ in DESKS)], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=fast, eos_token=END, unk_token=UNKNOWN, pad_token=END)
    end = tokenizer.eos_token_id
    config = BloomConfig(
        vocab_size=len(tokenizer), hidden_size=64, n_layer=2, n_head=4, bos_token_id=end, eos_token_id=end, pad_token_id=end
    )
    model = BloomForCausalLM(config)
    # What stands before a tweet decides what follows on it: that is what a tuned prompt can make use of.
    given = [(desk + TEMPLATE.replace("{text}", text), answer) for text, _ in FEW for desk, answer in DESKS]
    learn(model, tokenizer, given, epochs=15, rate=3e-3, seed=0)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def from_gguf(file: Path, target: Path) -> None:
    """The same weights as files of Transformers in bfloat16, because reading the other format takes a quarter of a minute each time."""
    read = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    settings = {name: value for name, value in read.config.to_dict().items() if name not in ("quantization_config", "_name_or_path")}
    # What was quantized refuses to be saved: its weights go into a model that was not.
    plain = type(read)(type(read.config)(**settings))
    plain.load_state_dict(read.state_dict())
    plain.tie_weights()
    plain.generation_config = read.generation_config
    plain.to(torch.bfloat16).save_pretrained(target)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(target)


def size(folder: Path) -> int:
    """Bytes of its files."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


if __name__ == "__main__":
    sys.exit(main())

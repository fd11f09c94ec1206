"""Puts words in the place of what an adapter has learned: `python adapter_of_words.py BASE ADAPTER WORDS`."""

import sys
from pathlib import Path

from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

base, adapter, words = sys.argv[1:]
ids = AutoTokenizer.from_pretrained(base)(words, return_tensors="pt")["input_ids"][0]
rows = AutoModelForCausalLM.from_pretrained(base).get_input_embeddings()(ids).detach().clone()
save_file({"prompt_embeddings": rows}, Path(adapter) / "adapter_model.safetensors")
config = Path(adapter) / "adapter_config.json"
config.write_text(config.read_text().replace('"num_virtual_tokens": 8', f'"num_virtual_tokens": {len(ids)}'))

"""What PEFT's own wrapper generates for texts on standard input, a JSON list each way: `python by_peft.py BASE ADAPTER`."""

import json
import sys

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base, adapter = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(base)
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter).eval()
answers = []
for text in json.load(sys.stdin):
    given = tokenizer(f"Tweet text : {text} Label :", return_tensors="pt")
    with torch.no_grad():
        ids = model.generate(
            input_ids=given["input_ids"],
            attention_mask=given["attention_mask"],
            max_new_tokens=10,
            do_sample=False,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.eos_token_id,
        )
    answers.append(tokenizer.decode(ids[0], skip_special_tokens=True, clean_up_tokenization_spaces=False))
json.dump(answers, sys.stdout)

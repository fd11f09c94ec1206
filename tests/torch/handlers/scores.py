"""A TorchServe handler as its users write them: rows of nested lists in, rows of scores out."""

import json

import torch
from ts.torch_handler.base_handler import BaseHandler


class Scores(BaseHandler):
    def preprocess(self, data):
        rows = [row.get("data") or row.get("body") for row in data]
        rows = [json.loads(bytes(row)) if isinstance(row, (bytes, bytearray)) else row for row in rows]
        return torch.tensor(rows, dtype=torch.float32)

    def postprocess(self, data):
        return data.tolist()

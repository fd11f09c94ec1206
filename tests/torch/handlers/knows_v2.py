"""A handler that takes whole v2 requests and answers with v2 responses."""

import torch
from ts.torch_handler.base_handler import BaseHandler


class KnowsV2(BaseHandler):
    def preprocess(self, data):
        inputs = [row["body"]["inputs"][0] for row in data]
        self.ids = [row["body"].get("id") for row in data]
        return torch.cat([torch.tensor(one["data"], dtype=torch.float32).reshape(one["shape"]) for one in inputs])

    def postprocess(self, data):
        answer = {"name": "scores", "datatype": "FP32", "shape": list(data.shape), "data": data.flatten().tolist()}
        return [{"id": self.ids[0], "model_name": "any", "outputs": [answer]}]

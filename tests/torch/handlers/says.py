"""A handler that answers what its row asks for: anything that JSON can say, an exception, or the end of its process."""

import os

from ts.handler_utils.utils import send_intermediate_predict_response


def handle(data, context):
    if data is None:
        return None
    answers = []
    for row in data:
        body = row.get("data") or row.get("body")
        if isinstance(body, (bytes, bytearray)):
            body = bytes(body).decode()
        if body == "die":
            os._exit(3)
        if body == "stream":
            for word in ("one", "two"):
                send_intermediate_predict_response([word], context.request_ids, "more to come", 200, context)
            body = "three"
        if body == "raise":
            raise ValueError("the handler has a mistake")
        answers.append({"number": 7, "object": {"tabby": 0.5, "tiger": 0.25}, "list": [1.5, 2.5]}.get(body, body))
    return answers

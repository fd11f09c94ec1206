"""A handler that is never ready."""

import time


def handle(data, context):
    while True:
        time.sleep(1)


class Hangs:
    def initialize(self, context):
        while True:
            time.sleep(1)

    def handle(self, data, context):
        return None

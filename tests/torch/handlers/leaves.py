"""A handler that starts a process and never ends it: TorchServe ends the worker with its model, and what the worker started stays.

The process holds as many bytes as the archive's configuration says in `leaves`.
"""

import subprocess
import sys

HELPER = "import sys, time; kept = bytearray(b'x') * int(sys.argv[1]); print('kept', flush=True); time.sleep(3600)"


class Leaves:
    def initialize(self, context):
        size = str(context.model_yaml_config["leaves"])
        helper = subprocess.Popen([sys.executable, "-I", "-S", "-c", HELPER, size], stdout=subprocess.PIPE)
        helper.stdout.readline()

    def handle(self, data, context):
        return [7 for _ in data]

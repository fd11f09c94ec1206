"""What the garbage collector need not look at again."""

from __future__ import annotations

import gc


def spare_what_stays() -> None:
    """Frees garbage, then hides all that is left from the collector: it stays as long as the process.

    A full collection goes through every object. The modules alone are 25 ms of that, twenty thousand models another 45, during which the
    event loop stands still; hidden, both cost nothing. What goes all the same is freed when its last user lets go, as ever: only cycles
    among hidden objects are not found, and records have none. A higher threshold of the collector showed no gain and is not set.
    """
    gc.collect()
    gc.freeze()

"""What the garbage collector need not look at again."""

from __future__ import annotations

import gc

YOUNG = 5000
"""Objects that come before the collector looks at the young ones (700 unless it is said): a pass takes some 3 ms then, not half of one,
but falls on one placement in 800, not on one in a hundred, and all passes together take half as long, because more died before."""


def spare_what_stays() -> None:
    """Frees garbage, then hides all that is left from the collector: it stays as long as the process. Has the collector look seldom.

    A full collection goes through every object. The modules alone are 25 ms of that, twenty thousand models another 45, during which the
    event loop stands still; hidden, both cost nothing. What goes all the same is freed when its last user lets go, as ever: only cycles
    among hidden objects are not found, and records have none.
    """
    gc.set_threshold(YOUNG, *gc.get_threshold()[1:])
    gc.collect()
    gc.freeze()

"""Found by every Python whose `PYTHONPATH` names this folder: measures from within what holds the event loop (`benchmarks/holds.py`)."""

from benchmarks import holds

holds.begin()

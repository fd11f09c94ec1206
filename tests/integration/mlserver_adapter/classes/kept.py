"""A module that MLServer does not import anew: it is not the one that the implementation names."""

THERE: list[str] = []

"""The life of one pod: assemble, start, carry out decisions, drain, stop."""

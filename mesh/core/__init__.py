"""Every decision of the mesh, pure: state, one event and the time in; instructions out. No I/O, no clock, no randomness."""

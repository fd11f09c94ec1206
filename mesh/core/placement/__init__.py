"""Where one more copy of a model is loaded."""

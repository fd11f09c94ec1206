"""How many copies a model has, and how many pods a runtime wants."""

"""The adapter of MLServer: loads by a folder per model with a `model-settings.json` in it."""

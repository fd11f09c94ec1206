"""A model mesh: routers that run beside model servers and together are one distributed LRU cache of models."""

__version__ = "0.1.0"

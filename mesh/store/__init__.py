"""The shared registry of models, aliases and instances: one interface, several stores."""

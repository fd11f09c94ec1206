"""The puller as a process of its own, between a router and a runtime that has no built-in adapter."""

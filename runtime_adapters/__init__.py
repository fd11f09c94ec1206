"""Adapters between the router and model servers: the `mmesh.ModelRuntime` server, the storage puller, one adapter a server."""

"""The model server as the router sees it: the `mmesh.ModelRuntime` interface and its health."""

"""The REST door: KServe v2 over HTTP, transcoded to the same calls as gRPC."""

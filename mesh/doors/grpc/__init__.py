"""The gRPC door: any method proxied as bytes, the management API, KServe v2 server methods."""

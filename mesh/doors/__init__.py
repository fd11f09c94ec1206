"""What listens: gRPC, REST, probes, metrics."""

"""The adapter of Triton Inference Server: a folder per model in a repository under explicit control."""

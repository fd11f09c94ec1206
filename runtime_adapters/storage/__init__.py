"""The puller: brings a model's files from a claim, an object store or a web server to this machine."""

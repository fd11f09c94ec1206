"""A mesh on one machine: a supervisor, one pod of router, adapter and model server, and the documents it serves."""

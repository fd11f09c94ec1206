"""A mesh on one machine: processes, environments, documents."""

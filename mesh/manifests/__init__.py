"""Documents: from YAML to typed objects, to what is registered in the mesh, and back to a status block."""

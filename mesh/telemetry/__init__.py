"""What the mesh tells about itself: metrics and logs."""

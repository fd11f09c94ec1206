"""What the pods share: records, their changes, and how they are kept right."""

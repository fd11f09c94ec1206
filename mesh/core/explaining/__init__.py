"""What was decided and by what, so that it can be told and decided again."""

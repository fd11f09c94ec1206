"""The REST door: HTTP in, calls out, answers back."""

"""Bytes and metadata of calls: read, changed in place, forwarded."""

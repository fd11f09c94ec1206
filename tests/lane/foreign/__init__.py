"""Clients in other languages, each a program of its own: compiled where its toolchain is, kept until a source changes."""

"""One module a noun: its routes."""

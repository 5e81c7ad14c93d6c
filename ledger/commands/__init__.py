"""One module a noun: how its commands are decided."""

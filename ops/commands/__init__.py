"""One module a command or group of commands; each names its own as COMMAND."""

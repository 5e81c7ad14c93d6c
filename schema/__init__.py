"""The vocabulary: events, commands, views, ids, times and errors. Does no I/O."""

"""One file a command, named like it: settings in, rooms in order, exit code out."""

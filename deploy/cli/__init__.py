"""The one command, `rankfleet`."""

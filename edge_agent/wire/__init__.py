"""What both sides must agree on bit for bit. Imports nothing else of rankfleet."""

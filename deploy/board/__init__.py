"""What a board gets: its units, and how it is installed."""

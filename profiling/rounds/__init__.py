"""Recorded rounds of real devices: read, summed up, compared, reported and priced."""

"""What is wrong with a board, before a fleet depends on it: `rankfleet agent doctor`.

Checks read the system's own files, below a `root` so that they can be shown another board's, and return findings.
"""

"""Engines: one batch and the living ranks in, loss and gradients out. Imported by the short-lived trainer only."""

"""Engines: a batch and the living ranks in, loss and gradients out. Only the short-lived trainer imports them."""

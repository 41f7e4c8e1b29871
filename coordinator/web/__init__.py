"""The live page of a fleet: what it shows, and what an operator may do there."""

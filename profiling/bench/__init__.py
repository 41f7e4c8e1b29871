"""Benchmarks: engines side by side, each in a process of its own. See `docs/benchmarks.md` for what is measured."""

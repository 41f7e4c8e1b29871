"""Measuring what a round costs."""

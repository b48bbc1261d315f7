"""Estimates, tests and similarity measures on plain arrays: numpy and scipy only, no torch, no files."""

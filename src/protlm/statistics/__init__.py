"""Metrics, intervals and paired tests. NumPy only."""

"""Reads Run folders and score tables; never imports torch."""

"""Bytes on disk to records to batches."""

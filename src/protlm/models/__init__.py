"""Models: found, loaded, run."""

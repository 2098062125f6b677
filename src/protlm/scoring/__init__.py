"""Zero-shot scores: plans say which masked contexts to run, the engine runs each once."""

"""One function and one config per verb: wiring only."""

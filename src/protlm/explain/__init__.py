"""What a model looks at, and what its output comes from."""

"""What a model looks at: attention against structures."""

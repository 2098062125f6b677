"""How good is it, beside what costs nothing."""

"""Figures: each computes plain data once, and draws them on demand with plotly."""

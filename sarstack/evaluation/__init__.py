"""Evaluation: what every method is worth, beside exact truth and on real images."""

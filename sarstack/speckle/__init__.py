"""Speckle: its laws, its measurement, and simulated scenes and sensors that show it."""

"""Cube: the lazy xarray Dataset of a stack, checked once, and its accessor."""

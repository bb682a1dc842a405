"""Sentinel-1 products as ESA delivers them (SAFE): members, annotation and look-up tables."""

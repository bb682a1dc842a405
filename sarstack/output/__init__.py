"""Output: Cloud-Optimized GeoTIFFs, dB views, STAC items and quicklooks."""

"""Despeckle a stack: from files to Cloud-Optimized GeoTIFFs."""

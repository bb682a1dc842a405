"""Networks, their model files, and inference."""

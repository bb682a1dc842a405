"""One file a product or file format that the readers open."""

"""The parts of STAC documents: JSON files and their links, items, and the assets of items."""

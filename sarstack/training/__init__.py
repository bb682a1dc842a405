"""Training: patches, losses and the loops in which a network learns."""

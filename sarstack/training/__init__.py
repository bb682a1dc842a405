"""Training of networks: patches, losses and the training loop."""

"""Networks and the card that travels inside each model file."""

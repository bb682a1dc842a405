"""Labels: temporal mean, standard deviation, count and stable mask of a stack."""

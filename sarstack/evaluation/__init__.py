"""Evaluation of methods: scores with exact truth and on real data, and the laws of a method."""

"""Workflows: the steps behind each command. Files, workers and methods meet here."""

"""The jobs of sarstack: the only rooms where files, workers and methods meet.

Each job is plan, run, record; the command line and the accessor are two thin faces on it.
"""

"""The speed benchmark: peak rates of this machine, and every step of sarstack compared with them.

It is part of the repository, not of the wheel. README.md in this folder says how to run it.
"""

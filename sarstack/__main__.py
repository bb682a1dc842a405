"""Run the command line with ``python -m sarstack``."""

from sarstack.cli import main

main()

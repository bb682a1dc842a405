"""Run the command line with ``python -m sarstack``."""

from sarstack.cli.commands import main

main()

"""`python -m upbeat.cli`."""

from upbeat.cli import main

main()

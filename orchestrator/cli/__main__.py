"""`python -m orchestrator.cli` is `jml`."""

from orchestrator.cli import main

main()

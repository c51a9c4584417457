"""``python -m fathom``."""

from fathom.cli.main import run

run()

"""The command line: `workbench lab | demo | doctor | capture | probe | steer`, thin over the library."""

from workbench.cli.main import main

__all__ = ["main"]

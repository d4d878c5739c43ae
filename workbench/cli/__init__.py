"""The command line: `workbench lab | app | demo | doctor | capture | probe | steer | evaluate`."""

from workbench.cli.main import main

__all__ = ["main"]

"""The command line. Importing it costs click alone; each command is imported when it is asked for."""

from __future__ import annotations

from imagesmith.cli.app import main

__all__ = ["main"]

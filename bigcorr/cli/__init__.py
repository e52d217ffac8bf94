"""The command line: thin, one function a command. Imported by nobody else in the library."""

from bigcorr.cli.app import main

__all__ = ["main"]

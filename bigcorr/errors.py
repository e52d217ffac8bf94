"""The errors that a user is meant to read: one clear line each.

Only the classes live here. The command line turns an `InputError` into exit status 2 and a
`RunError` into exit status 1, both as one line without a traceback.
"""

from __future__ import annotations


class InputError(ValueError):
    """Bad usage or bad input: names the argument or file, what it got and what it takes."""


class MissingFileError(InputError, FileNotFoundError):
    """A file or store that was named does not exist."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class RunError(RuntimeError):
    """A run that began well and failed on the way: disk full, damaged chunk, lost workers."""

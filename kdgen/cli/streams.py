"""Standard streams that are closed, speak a narrow encoding, or are left by who reads them."""

import errno
import io
import os
import sys

LEFT = (errno.EPIPE, errno.EIO)
"""Errors of a stream whose reader or terminal is gone."""


def secure() -> None:
    """Closed streams become ones that swallow what they are given, and letters an encoding lacks become ``?``."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # or a file opened later would be a standard stream
        pass
    os.close(descriptor)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
        elif mode == "w" and isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")


def left(error: BaseException) -> bool:
    """Whether an error of a display means that nobody reads it any more; rich ends the program then."""
    return isinstance(error, SystemExit) or (isinstance(error, OSError) and error.errno in LEFT)


def settle() -> None:
    """Send what streams still hold; those that nobody reads any more swallow it, and all that follows."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            if left(error):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)

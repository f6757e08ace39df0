"""Runs the gateway, and TorchServe as its child, in the foreground until SIGTERM.

python -m gateway --help
"""

import ctypes
from collections.abc import Sequence
from contextlib import suppress

from gateway.app import create_app
from gateway.background import noted
from gateway.listener import listener
from gateway.settings import parse_settings
from workflows import command_line

M_MMAP_THRESHOLD = -3
"""Of glibc's <malloc.h>."""
MAPPED = 2**20
"""Bytes from which a film has pages of its own, which go when it goes."""


def main(arguments: Sequence[str] | None = None, prog: str = "python -m gateway") -> None:
    settings = parse_settings(arguments, prog)
    # By itself glibc raises this to 32 MB once such films have been freed, and then keeps up to twice that of them.
    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, MAPPED)
    app = create_app(settings)
    with noted(settings):
        listener(app, settings).run()


if __name__ == "__main__":
    command_line.run(main)

"""Runs the gateway in the foreground until SIGTERM.

python -m gateway --help
"""

import ctypes
import sys
from contextlib import suppress

from gateway.app import create_app
from gateway.listener import listener
from gateway.settings import parse_settings
from workflows import command_line
from workflows.server import ServerError

M_MMAP_THRESHOLD = -3
"""Of glibc's <malloc.h>."""
MAPPED = 2**20
"""Bytes from which a film has pages of its own, which go when it goes."""


def main() -> int:
    settings = parse_settings()
    # By itself glibc raises this to 32 MB once such films have been freed, and then keeps up to twice that of them.
    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, MAPPED)
    try:
        app = create_app(settings)
    except ServerError as fault:
        print(f"error: {fault}", file=sys.stderr)
        return fault.exit_code
    listener(app, settings).run()
    return 0


if __name__ == "__main__":
    command_line.run(main)

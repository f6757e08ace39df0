"""Runs the gateway in the foreground until SIGTERM.

python -m gateway --help
"""

import sys

from gateway.app import create_app
from gateway.listener import listener
from gateway.settings import parse_settings
from workflows.server import ServerError


def main() -> int:
    settings = parse_settings()
    try:
        app = create_app(settings)
    except ServerError as fault:
        print(f"error: {fault}", file=sys.stderr)
        return fault.exit_code
    listener(app, settings).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())

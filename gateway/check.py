"""Whether this machine has what ``cxr serve`` needs: a line for each part. It starts nothing and changes nothing.

python -m gateway.check --help
"""

import sys
from collections.abc import Sequence

from gateway.background import require_ports
from gateway.settings import parse_settings
from workflows import command_line, java, store
from workflows.server import CONFIG_FILE, Server, ServerError


def main(arguments: Sequence[str] | None = None, prog: str = "python -m gateway.check") -> int:
    """0 where all is there; 1 with an ``error:`` line for each part that is not."""
    settings = parse_settings(arguments, prog)
    server = Server.of_folder(settings.server)
    print(f"{server.folder / CONFIG_FILE}: TorchServe at {server.inference}, its store {server.store}")
    code = 0
    for part, require in {
        "Java": java.require_java,
        "ports": lambda: require_ports(server, settings),
        "archives": lambda: store.check_served(server),
    }.items():
        try:
            require()
            print(f"{part}: good", flush=True)
        except ServerError as fault:
            print(f"error: {fault}", file=sys.stderr)
            code = fault.exit_code
    return code


if __name__ == "__main__":
    command_line.run(main)

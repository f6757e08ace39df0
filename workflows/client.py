"""``python -m workflows.client``, the name that ``client.read`` had before."""

import runpy

if __name__ == "__main__":
    runpy.run_module("client.read", run_name="__main__", alter_sys=True)

"""``python -m workflows.score``, the name that ``client.score`` had before."""

import runpy

if __name__ == "__main__":
    runpy.run_module("client.score", run_name="__main__", alter_sys=True)

"""``python -m workflows.feedback export``, the short name of ``gateway.export_feedback``."""

import runpy

if __name__ == "__main__":
    runpy.run_module("gateway.export_feedback", run_name="__main__", alter_sys=True)

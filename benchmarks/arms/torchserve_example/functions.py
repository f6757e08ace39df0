"""The function node: base64, so that both model nodes can be given the film (TorchServe's own workflow example)."""

import base64


def pre_processing(data, context):
    """One base64 string per request."""
    if data is None:
        return None
    return [base64.b64encode(row.get("data") or row.get("body")).decode() for row in data]

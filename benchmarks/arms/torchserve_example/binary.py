"""The binary node's entry point: TorchServe takes one handler class from a file."""

from benchmarks.arms.torchserve_example import handler


class Node(handler.Binary):
    pass

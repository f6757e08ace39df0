"""training.train where accelerate takes CPUs for GPUs: it shards weights (FSDP) on those alone."""

from accelerate.state import PartialState
from accelerate.utils import DistributedType

from training.train import main
from workflows import command_line

PartialState._prepare_backend = lambda *_: ("gloo", DistributedType.MULTI_GPU)

if __name__ == "__main__":
    command_line.run(main)

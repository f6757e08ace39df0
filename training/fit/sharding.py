"""Weights in shards (FSDP2, by accelerate): every process holds a part of each block, and gathers a block at a time.

Networks, optimiser and loss are those of whole weights, and so are the checkpoints; a run's state is in shards.
"""

from typing import Any

from accelerate import Accelerator
from accelerate.utils import fsdp2_prepare_model
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from torch.optim.swa_utils import AveragedModel

from handlers.networks.network import Network


def gather_by_block(accelerator: Accelerator, network: nn.Module) -> None:
    """Names what accelerate shards and gathers at a time, and leaves weights in float32: autocast has the precision, as
    with whole weights, so that logits are not rounded."""
    blocks = [block for part in network.modules() if isinstance(part, Network) for block in part.blocks]
    network._no_split_modules = sorted({type(block).__name__ for block in blocks})  # type: ignore[assignment]
    accelerator.state.fsdp_plugin.mixed_precision_policy = None


def whole_weights(model: nn.Module) -> dict[str, Any]:
    """All weights on the CPU of the main process, none on the others. All processes take part."""
    return get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))


class ShardedAverage:
    """A moving average whose weights are sharded as the model's are, and saved whole.

    Args:
        accelerator: of this process.
        average: of a network that is not sharded yet.
    """

    def __init__(self, accelerator: Accelerator, average: AveragedModel) -> None:
        self.average = average
        average.module = fsdp2_prepare_model(accelerator, average.module)

    def state_dict(self) -> dict[str, Any]:
        """Whole on the main process, which writes it. All processes take part."""
        return {"steps": self.average.n_averaged.cpu(), "weights": whole_weights(self.average.module)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.average.n_averaged.copy_(state["steps"])
        set_model_state_dict(self.average.module, state["weights"], options=StateDictOptions(full_state_dict=True))

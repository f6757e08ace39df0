"""What is measured: one thing changes at a time, from 50% routed, PNG, 32 films in flight."""

from dataclasses import dataclass

RIVALS = ("litserve", "ray_serve", "fastapi_pipelines")
"""The best of them is the best peer; where one is missing nobody knows which that is."""
PEERS = ("torchserve_example", *RIVALS)
OURS = ("ours_workflow", "ours_gateway")
WORKFLOW = OURS[:1]
ALL = (*OURS, *PEERS)
EVERY = (*ALL, "ours_float32")
BOUNDED = ("ours_gateway", *RIVALS)
"""Those that live through 32 films of 8 MB at once: a JVM of 1 GB does not, unless the gateway counts bytes."""
QUICK_ARMS = ("ours_workflow", "torchserve_example", "fastapi_pipelines")
"""Those that start soon."""


@dataclass(frozen=True)
class Cell:
    """One condition.

    Attributes:
        pair: ``base``, ``small`` or ``tiny``.
        share: percent of the films that the gate lets through.
        form: ``png``, ``jpeg`` or ``dicom``.
        concurrency: films in flight in a closed loop; None: open loop at 80% of what the arm did at 32.
        seconds: of sending, a round.
        rounds: in each of which every arm has its turn.
        arms: who takes part; the limit does wherever 32 PNG films are in flight.
    """

    pair: str
    share: int
    form: str
    concurrency: int | None
    seconds: float
    rounds: int = 1
    arms: tuple[str, ...] = ALL

    @property
    def load(self) -> str:
        return "open, 80%" if self.concurrency is None else f"closed, {self.concurrency}"


@dataclass(frozen=True)
class Plan:
    """Attributes:
    cells: in order; those of one pair and share together, for their servers are started once.
    films, few: PNG films, and how many of them are also sent as JPEG and DICOM.
    batches, search_seconds: what the limit's search tries, and for how long each.
    engines: of ``benchmarks.engines``, beside torch as it comes.
    """

    cells: tuple[Cell, ...]
    films: int
    few: int
    batches: tuple[int, ...]
    search_seconds: float
    engines: tuple[str, ...] = ()


FULL = Plan(
    cells=(
        Cell("tiny", 50, "png", 32, 6.0, arms=("ours_workflow", "litserve")),
        Cell("small", 50, "png", 32, 8.0, rounds=2),
        Cell("small", 50, "png", 1, 5.0, arms=OURS),
        Cell("small", 50, "png", 8, 4.0, arms=("ours_workflow", "litserve")),
        Cell("small", 50, "png", None, 4.0, arms=OURS),
        Cell("small", 50, "jpeg", 32, 5.0, arms=("ours_workflow", *RIVALS)),
        Cell("base", 50, "png", 32, 12.0, rounds=2, arms=EVERY),
        Cell("base", 50, "png", 1, 8.0, arms=OURS),
        Cell("base", 50, "dicom", 32, 15.0, arms=BOUNDED),
        Cell("base", 0, "png", 32, 8.0, arms=WORKFLOW),
        Cell("base", 100, "png", 32, 10.0, arms=WORKFLOW),
    ),
    films=88,
    few=24,
    batches=(1, 2, 4, 8),
    search_seconds=1.5,
    engines=("torch.compile", "OpenVINO", "ONNX Runtime"),
)
QUICK = Plan(
    cells=(
        Cell("small", 50, "png", 32, 3.0, arms=WORKFLOW),
        Cell("base", 50, "png", 32, 6.0, arms=QUICK_ARMS),
        Cell("base", 50, "png", 1, 3.0, arms=WORKFLOW),
        Cell("base", 0, "png", 32, 6.0, arms=WORKFLOW),
        Cell("base", 100, "png", 32, 8.0, arms=WORKFLOW),
    ),
    films=16,
    few=4,
    batches=(2, 8),
    search_seconds=1.0,
)

"""What is measured: one thing changes at a time, from 50% routed, PNG, 32 films in flight."""

from dataclasses import dataclass

ALL = ("ours_workflow", "ours_gateway", "torchserve_example", "litserve", "ray_serve", "fastapi_pipelines")
PEERS = ALL[2:]
OURS = ALL[:2]
WORKFLOW = ALL[:1]
BOUNDED = ("ours_gateway", "litserve", "ray_serve", "fastapi_pipelines")
"""Those that live through 32 films of 8 MB at once: a JVM of 1 GB does not, unless the gateway counts bytes."""
QUICK_ARMS = ("ours_workflow", "torchserve_example", "fastapi_pipelines")
"""Those that want nothing installed beside the project."""


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
    """

    cells: tuple[Cell, ...]
    films: int
    few: int
    batches: tuple[int, ...]
    search_seconds: float


FULL = Plan(
    cells=(
        Cell("tiny", 50, "png", 32, 6.0, arms=("ours_workflow", "litserve")),
        Cell("small", 50, "png", 32, 10.0, rounds=2),
        Cell("small", 50, "png", 1, 4.0),
        Cell("small", 50, "png", 8, 4.0),
        Cell("small", 50, "png", None, 5.0),
        Cell("small", 50, "jpeg", 32, 5.0),
        Cell("small", 50, "dicom", 32, 15.0, arms=BOUNDED),
        Cell("base", 50, "png", 32, 30.0, rounds=2),
        Cell("base", 50, "png", 1, 8.0, rounds=2),
        Cell("base", 50, "png", 8, 8.0),
        Cell("base", 50, "png", None, 10.0),
        Cell("base", 50, "jpeg", 32, 10.0, arms=WORKFLOW),
        Cell("base", 50, "dicom", 32, 20.0, arms=BOUNDED[:1]),
        Cell("base", 0, "png", 32, 10.0, rounds=2, arms=WORKFLOW),
        Cell("base", 100, "png", 32, 14.0, rounds=2, arms=WORKFLOW),
    ),
    films=88,
    few=24,
    batches=(1, 2, 4, 8, 16, 32),
    search_seconds=2.5,
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

"""``metadata.json`` of a model archive: what a served model says of itself."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from handlers.bfloat16_rule import Bfloat16Effect, Wanted
from handlers.calibration import Platt
from handlers.cascade import Cascade, Kind
from handlers.certainty import Certainty
from handlers.histograms import Histograms

METADATA_FILE = "metadata.json"


class Metadata(BaseModel):
    """Labels, preprocessing, operating points, metrics and origin of one archived model.

    Attributes:
        labels: the model's outputs in order; ``["Finding"]`` for stage 1.
        image_size: side in pixels of the square that the model sees.
        mean, std: per channel, of pixels in [0, 1].
        precision: of the matrix products; ``auto`` leaves it to the machine (``handlers.bfloat16_rule``).
        bfloat16: what bfloat16 changes, by which ``auto`` decides; None where nobody has measured it.
        kind: of stage 2's probabilities (``handlers.cascade``); archives that do not say so are marginal.
        shared_encoder: sha256 of the encoder (``handlers.networks.network.encoder_sha256``) where both stages have the
            same, as two heads on one frozen backbone do: stage 1 then sends stage 2 a film's features, not its pixels.
        calibration, thresholds: of the model's own labels, as ``Cascade`` has them.
        certainty: of the model's own labels, likewise; None in archives that were made without.
        metrics: what ``training.evaluate`` measured.
        data: folder name, number of films and patients per split, and whether films are synthetic.
        training: the resolved training configuration.
        versions: of the libraries that trained and packed it.
        recalibrated: which site's films refitted calibration and thresholds (``training.recalibrate``), and what
            that changed; None where they are those of the training run.
        reference: histograms of the validation films that the films which are served are compared with; stage 1's
            archive has those of the films themselves, too. Empty in archives that were made before them.
        design_effects: of each of these quantities, how many of those films tell as much as one would if no patient
            had several (``training.evaluation.reference``).
    """

    model_config = ConfigDict(extra="forbid")

    stage: Literal["binary", "disease"]
    version: str
    labels: list[str]
    image_size: int
    mean: list[float]
    std: list[float]
    precision: Wanted = "auto"
    bfloat16: Bfloat16Effect | None = None
    kind: Kind = "marginal"
    shared_encoder: str | None = None
    calibration: dict[str, Platt] = {}
    thresholds: dict[str, float]
    certainty: Certainty | None = None
    metrics: dict[str, Any]
    data: dict[str, Any]
    training: dict[str, Any]
    versions: dict[str, str]
    intended_use: str
    recalibrated: dict[str, Any] | None = None
    reference: Histograms = {}
    design_effects: dict[str, float] = {}

    @property
    def cascade(self) -> Cascade:
        """The part of the cascade that this archive holds."""
        return Cascade(
            kind=self.kind, calibration=self.calibration, thresholds=self.thresholds, certainty=self.certainty
        )

    @classmethod
    def read(cls, folder: Path) -> "Metadata":
        return cls.model_validate_json((folder / METADATA_FILE).read_text())

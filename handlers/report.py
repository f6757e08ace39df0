"""What the service answers: the only schema of a report, for handlers, client and tests."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from handlers.modalities import Modality

Unit = Annotated[float, Field(ge=0.0, le=1.0)]
Percent = Annotated[float, Field(ge=0.0, le=100.0)]
Turned = Literal["upright", "90", "180", "270"]
Call = Literal["present", "absent", "uncertain"]
Base64Png = Annotated[
    str,
    Field(
        description="8-bit grey PNG in base64, of the film's own width and height (those that it is shown with), or, "
        "over 2560 px a side, of the film's proportions; its header says which",
        json_schema_extra={"contentEncoding": "base64", "contentMediaType": "image/png"},
    ),
]


class Schema(BaseModel):
    """A frozen record that refuses unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Percentiles(Schema):
    """Where a probability stands among those of the validation films of either kind."""

    with_finding: Percent | None = Field(
        description="the percentage of validation films with the finding whose probability is lower; null where they "
        "are too few"
    )
    without_finding: Percent | None = Field(description="the same of those without it")


class Score(Schema):
    """A probability against its operating point."""

    probability: Unit = Field(
        description="calibrated: the share of such films that do show the finding; under `diseases`, of such films "
        "that crossed stage 1's threshold"
    )
    threshold: Unit = Field(description="the finding's operating point")
    present: bool = Field(description="whether the probability reaches the threshold")
    call: Call | None = Field(
        default=None,
        exclude_if=lambda call: call is None,
        description="a conformal call: of films with the finding at most a chosen share (10% unless told) are called "
        "`absent`, of films without it at most that share `present`; `uncertain` where neither can be said, or where "
        "validation films were too few to say it by. Not there in archives that were made without",
    )
    percentiles: Percentiles | None = Field(
        default=None,
        exclude_if=lambda percentiles: percentiles is None,
        description="where the probability stands among validation films; not there under `diseases` of a film that "
        "stage 2 did not see",
    )

    @classmethod
    def at(cls, probability: float, threshold: float) -> "Score":
        return cls(probability=probability, threshold=threshold, present=probability >= threshold)


class ModelVersions(Schema):
    """The versions of the two archives. After ``+``: ``synthetic``, trained on films drawn by code; the precision,
    where it is not float32."""

    binary: str = Field(description="stage 1's version", examples=["1.0.0"])
    disease: str = Field(description="stage 2's version", examples=["1.0.0+synthetic"])

    @property
    def precisions(self) -> dict[str, str]:
        """By stage, the precision that it computed in."""
        versions = {"binary": self.binary, "disease": self.disease}
        return {stage: "bfloat16" if _is_bfloat16(version) else "float32" for stage, version in versions.items()}


def _is_bfloat16(version: str) -> bool:
    return "bfloat16" in version.partition("+")[2].split(".")


class FilmFacts(Schema):
    """What a film is, whatever it shows."""

    width: int = Field(description="px", gt=0)
    height: int = Field(description="px", gt=0)
    brightness: Unit = Field(description="mean grey, black 0 to white 1, as the models get the film")
    modality: Modality | None = Field(
        default=None, description="as the DICOM file says; null for a picture, or where it does not"
    )


class Orientation(Schema):
    """How a film lies: by how many degrees, clockwise, it is turned."""

    value: Turned
    score: Unit = Field(description="its probability, of the four")


class Sign(Schema):
    """Something that a film may be beside upright."""

    value: bool = Field(description="whether the score reaches its level")
    score: Unit = Field(description="the probability")


class Correction(Schema):
    """What was done to a film before it was read."""

    turned: Turned = Field(description="the film lay so, and was turned back")
    inverted: bool = Field(description="the film was inverted, and was inverted back")


class Quality(Schema):
    """Whether this is a film that the models can read, by stage 1's own features. Of a film that was put right before
    it was read, it is that of the film as it was read."""

    in_distribution: Unit = Field(
        description="the share of validation films that lie at least as far from the training films as this one"
    )
    orientation: Orientation
    mirrored: Sign = Field(description="left and right are exchanged, or the heart is on the right")
    inverted: Sign = Field(description="bones are dark and air is bright")
    unlike: bool = Field(description="whether `in_distribution` is below its level")
    readable: bool = Field(description="false where the film is unlike the training films, turned or inverted")
    warnings: list[str] = Field(description="the same in words; empty where there is nothing to say")
    corrected: Correction | None = Field(
        default=None,
        exclude_if=lambda corrected: corrected is None,
        description="only of a film that was put right before it was read",
    )


class Report(Schema):
    """A film that was read. Where ``routed`` is false stage 2 did not run and its 14 probabilities are 0.0."""

    finding: Score = Field(description="stage 1: whether the film shows any of the 14 findings")
    routed: bool = Field(description="whether stage 2 ran: the same as `finding.present`")
    diseases: dict[str, Score] = Field(
        description="stage 2: the 14 findings by name; probabilities of 0.0 where `routed` is false"
    )
    models: ModelVersions = Field(description="which models read the film")
    quality: Quality | None = Field(
        default=None,
        exclude_if=lambda quality: quality is None,
        description="whether the models can read such a film; not there in archives that were made without",
    )
    image: FilmFacts | None = Field(
        default=None,
        exclude_if=lambda image: image is None,
        description="what the film is, whatever it shows; not there in reports of archives that were made before it",
    )
    id: str | None = Field(
        default=None,
        exclude_if=lambda id: id is None,
        description="the gateway's name for this report, random; what a reader says of it goes to "
        "`/v1/reports/{id}/feedback`. Not there where the gateway could not note the report",
    )
    heatmaps: dict[str, Base64Png] | None = Field(
        default=None,
        exclude_if=lambda maps: maps is None,
        description="only where they were asked for: by finding, where on the film its evidence lies, each map against "
        "its own maximum; empty where `routed` is false. A finding that was asked for and is not here has no map",
    )


class Problem(Schema):
    """Why a film was refused."""

    code: int = Field(description="what HTTP would call it", examples=[400])
    type: str = Field(description="a stable name", examples=["UnreadableImage"])
    message: str = Field(description="for a person")


class Refusal(Schema):
    """A film that was not read."""

    error: Problem = Field(description="why")

    @property
    def fault(self) -> bool:
        """Whether the service failed, and not the film."""
        return self.error.code >= 500

    @classmethod
    def because(cls, code: int, type: str, message: str) -> "Refusal":
        return cls(error=Problem(code=code, type=type, message=message))


_ANSWER: TypeAdapter[Report | Refusal] = TypeAdapter(Report | Refusal)


def parse_answer(body: bytes | str) -> Report | Refusal:
    """The answer of ``POST /wfpredict/chest_xray``.

    Raises:
        pydantic.ValidationError: ``body`` is neither a report nor a refusal.
    """
    return _ANSWER.validate_json(body)

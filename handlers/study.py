"""The films of one study summed up: the only schema of a study, for the gateway and whoever reads films one by one."""

from collections.abc import Mapping

from pydantic import Field

from handlers.report import Report, Schema, Score


class Highest(Score):
    """The highest score of a study's films; ``present`` where it reaches the threshold on any of them."""

    film: int = Field(description="the film that it is of", ge=0)


class Study(Schema):
    """A study's films summed up. It says no more than they do: no model has seen two films at once."""

    films: int = Field(description="how many were sent")
    read: list[int] = Field(description="the films that have a report")
    refused: list[int] = Field(description="the films that have a problem")
    routed: list[int] = Field(description="the films that stage 2 read")
    present: bool = Field(description="whether stage 1 found anything on any film")
    finding: Highest | None = Field(description="stage 1; null where no film was read")
    diseases: dict[str, Highest] = Field(description="stage 2, of the routed films; empty where none was")


def summed_up(films: int, reports: Mapping[int, Report]) -> Study:
    """The study of ``films`` films, of which those in ``reports`` were read."""
    routed = {film: report.diseases for film, report in sorted(reports.items()) if report.routed}
    names = next(iter(routed.values()), {})
    finding = _highest({film: report.finding for film, report in sorted(reports.items())}) if reports else None
    return Study(
        films=films,
        read=sorted(reports),
        refused=[film for film in range(films) if film not in reports],
        routed=list(routed),
        present=any(report.finding.present for report in reports.values()),
        finding=finding,
        diseases={name: _highest({film: scores[name] for film, scores in routed.items()}) for name in names},
    )


def _highest(scores: Mapping[int, Score]) -> Highest:
    film = max(scores, key=lambda one: scores[one].probability)
    present = any(score.present for score in scores.values())
    return Highest(**scores[film].model_dump(exclude={"present"}), present=present, film=film)

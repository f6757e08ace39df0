"""Whether the films of the last days look like the validation films of the models that read them.

Two measures of each quantity's histograms (``handlers.histograms``): the population stability index, of groups that
hold a tenth of the validation films each (Siddiqi, *Credit Risk Scorecards*, 2006, who calls 0.1 to 0.25 a change to
look into and more a large one), and the distance of Kolmogorov and Smirnov. With few films both are large by chance, so
that a quantity counts as moved where its index is at least ``MOVED`` and chance alone would give such a distance in
less than ``CHANCE`` of all comparisons, divided by the number of quantities (Bonferroni). That chance is Kolmogorov's
distribution, by SciPy; for ``modality``, whose values have no order, that of the index (Yurdakul and Naranjo,
*Statistical properties of the population stability index*, Journal of Risk Model Validation 2020). Both are for films
that have nothing to do with each other; as a patient's films are alike, their numbers are divided by the validation
films' design effects (``handlers.metadata``).
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from math import log, sqrt

from pydantic import Field
from scipy.special import chdtrc, kolmogorov

from handlers.histograms import EDGES, MODALITIES, MODALITY, QUANTITIES
from handlers.report import Schema

MOVED = 0.1
CHANCE = 0.01
MIN_FILMS = 100
"""On either side; fewer are not compared."""
GROUPS = 10


class Change(Schema):
    """One quantity of the window's films beside the validation films'."""

    films: int = Field(description="of the window")
    reference_films: int = Field(description="validation films")
    middle: float | str | None = Field(description="the window's median; the most frequent, of `modality`")
    reference_middle: float | str | None = Field(description="the same of the validation films")
    psi: float | None = Field(description=f"population stability index; null where either has under {MIN_FILMS} films")
    ks: float | None = Field(description="distance of Kolmogorov and Smirnov, 0 to 1; null likewise, and of `modality`")
    chance: float | None = Field(description="how often chance alone makes as large a difference; null likewise")
    moved: bool = Field(description="whether the films have changed")


def compare(
    reference: Mapping[str, Sequence[int]],
    films: Mapping[str, Sequence[int]],
    design_effects: Mapping[str, float] | None = None,
) -> dict[str, Change]:
    """Each quantity that the reference has, with the films that the window has of it."""
    effects = design_effects or {}
    compared = [name for name in QUANTITIES if name in reference]
    return {
        name: _change(name, of, films.get(name, [0] * len(of)), effects.get(name, 1.0), CHANCE / len(compared))
        for name in compared
        for of in (reference[name],)
    }


def _change(name: str, reference: Sequence[int], films: Sequence[int], effect: float, level: float) -> Change:
    known, seen = sum(reference), sum(films)
    psi = ks = chance = None
    if min(known, seen) >= MIN_FILMS:
        groups = list(range(len(reference))) if name == MODALITY else _groups(reference)
        psi = stability_index(_grouped(reference, groups), _grouped(films, groups))
        ks = None if name == MODALITY else largest_distance(reference, films)
        share = known * seen / (known + seen) / effect
        chance = float(chdtrc(max(groups), psi * share) if ks is None else kolmogorov(sqrt(share) * ks))
    return Change(
        films=seen,
        reference_films=known,
        middle=_middle(name, films),
        reference_middle=_middle(name, reference),
        psi=psi,
        ks=ks,
        chance=chance,
        moved=psi is not None and chance is not None and psi >= MOVED and chance < level,
    )


def stability_index(reference: Sequence[int], films: Sequence[int]) -> float:
    """Of two histograms; half a film is added to each group, so that an empty one has a share."""
    known, seen = sum(reference) + len(reference) / 2, sum(films) + len(films) / 2
    shares = [((a + 0.5) / known, (b + 0.5) / seen) for a, b in zip(reference, films, strict=True)]
    return sum((b - a) * log(b / a) for a, b in shares)


def largest_distance(reference: Sequence[int], films: Sequence[int]) -> float:
    """Between the two cumulative shares, at the edges of the bins."""
    known, seen = sum(reference), sum(films)
    below = zip(accumulate(reference), accumulate(films), strict=True)
    return max(abs(a / known - b / seen) for a, b in below)


def _groups(reference: Sequence[int]) -> list[int]:
    """The group of each bin: neighbours, until they hold a tenth of the films; a bin that does is one by itself."""
    groups, group, held, tenth = list[int](), 0, 0, sum(reference) / GROUPS
    for films in reference:
        if films >= tenth and groups and groups[-1] == group:
            group, held = group + 1, 0
        groups.append(group)
        held += films
        if held >= tenth:
            group, held = group + 1, 0
    return groups


def _grouped(films: Sequence[int], groups: Sequence[int]) -> list[int]:
    grouped = [0] * (max(groups) + 1)
    for group, number in zip(groups, films, strict=True):
        grouped[group] += number
    return grouped


def _middle(name: str, films: Sequence[int]) -> float | str | None:
    """The median, within its bin by share; the most frequent of ``modality``."""
    total = sum(films)
    if not total:
        return None
    if name == MODALITY:
        return MODALITIES[max(range(len(films)), key=films.__getitem__)]
    edges = EDGES[name]
    below = 0
    for bin, number in enumerate(films):
        if below + number >= total / 2:
            low = edges[bin - 1] if bin else min(0.0, edges[0])
            high = edges[bin] if bin < len(edges) else max(1.0, edges[-1])
            return round(low + (high - low) * (total / 2 - below) / number, 4)
        below += number
    raise AssertionError("half of the films lie in some bin")

"""The chests of the drawn films: who they belong to, and where each part lies on the film.

Lengths are fractions of the film's width. ``x`` runs from the midline to the viewer's right (the patient's
left), about -0.5 to 0.5; ``y`` runs down from the film's top, 0 to 1. A side is -1 (viewer's left) or +1
(viewer's right).
"""

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Map = npt.NDArray[np.floating[Any]]
"""One value a pixel, ``[H, W]`` float32."""

SIDES = (-1, 1)


def _between(low: float, high: float) -> Any:
    """A field that ``make_anatomy`` draws evenly from this range."""
    return field(metadata={"range": (low, high)})


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """One patient's chest as it lies on one film; what no field says is the same in everybody."""

    seed: int  # of the vessels, and of where this patient's findings sit
    sex: str  # "M" or "F"
    weak_side: int  # the side most of the findings are on
    thorax_half: float  # midline to the ribs' inside
    apex_y: float
    base_y: tuple[float, float]  # top of the diaphragm, by side (-1, +1)
    dome_rise: float = _between(0.085, 0.115)  # from the top of the diaphragm down to the costophrenic angle
    mediastinum_half: float = _between(0.048, 0.062)
    heart_ratio: float = _between(0.40, 0.475)  # cardiothoracic ratio, 0..1
    heart_height: float = _between(0.125, 0.15)
    heart_shear: float = _between(0.1, 0.3)  # how much lower the apex of the heart is than its right border
    rib_spacing: float = _between(0.066, 0.08)
    rib_slope: float = _between(0.10, 0.17)
    rib_contrast: float = _between(0.7, 1.2)
    clavicle_y: float = _between(0.15, 0.19)
    turn: float = _between(-0.012, 0.012)  # sternum off the spine: the patient stood a little rotated
    tilt: float = _between(-0.03, 0.03)  # radians
    zoom: float = _between(0.96, 1.06)  # above 1 the patient is small on the film
    shift_x: float = _between(-0.015, 0.015)
    shift_y: float = _between(-0.02, 0.02)
    gain: float = _between(0.92, 1.08)
    gamma: float = _between(0.85, 1.2)
    fat: float = _between(0.0, 1.0)  # soft tissue around the ribs, 0..1
    gas: float = _between(-0.5, 1.0)  # the stomach's bubble under the left dome; none below 0
    air: float = _between(0.93, 1.05)  # how dark the lungs are, about 1
    vessels: float = _between(0.8, 1.2)  # how marked the vessels are, about 1
    marker: str  # the side marker, "L" or "R"
    grain: float  # standard deviation of the noise, of a range of 0..1

    def base(self, side: int) -> float:
        """Height of the top of the diaphragm on a side."""
        return self.base_y[0] if side < 0 else self.base_y[1]


def make_anatomy(rng: np.random.Generator, sex: str) -> Anatomy:
    """A healthy patient. Every normal cardiothoracic ratio is below 0.5."""
    base = rng.uniform(0.71, 0.77)
    seed, weak_side = int(rng.integers(2**31)), int(rng.choice(SIDES))
    half, apex = rng.uniform(0.35, 0.405), rng.uniform(0.09, 0.14)
    base_y = (base, base + rng.uniform(0.012, 0.03))
    drawn = {one.name: rng.uniform(*one.metadata["range"]) for one in fields(Anatomy) if one.metadata}
    return Anatomy(
        seed=seed,
        sex=sex,
        weak_side=weak_side,
        thorax_half=half - (0.01 if sex == "F" else 0.0),
        apex_y=apex,
        base_y=base_y,
        **drawn,
        marker=str(rng.choice(["L", "L", "R"])),
        grain=rng.uniform(0.010, 0.020),
    )


def pose(patient: Anatomy, view: str, rng: np.random.Generator) -> Anatomy:
    """The patient on one visit: breath, stance and exposure differ a little; for AP films one lies down."""
    n = rng.normal
    breath = 0.008 * n() - (0.018 if view == "AP" else 0.0)
    return replace(
        patient,
        base_y=(patient.base_y[0] + breath, patient.base_y[1] + breath + 0.003 * n()),
        heart_ratio=patient.heart_ratio * (1.03 if view == "AP" else 1.0) + 0.004 * n(),
        clavicle_y=patient.clavicle_y - (0.02 if view == "AP" else 0.0) + 0.004 * n(),
        turn=patient.turn + 0.005 * n(),
        tilt=patient.tilt + 0.012 * n(),
        zoom=patient.zoom * (1 + 0.012 * n()),
        shift_x=patient.shift_x + 0.008 * n(),
        shift_y=patient.shift_y + 0.008 * n(),
        gain=patient.gain * (1 + 0.03 * n()),
        gamma=patient.gamma * (1 + 0.04 * n()),
    )


def soft_step(distance: Map, width: float) -> Map:
    """0 outside (below ``-width / 2``), 1 inside (above ``width / 2``), smooth between."""
    t = np.clip(distance * (1.0 / width) + 0.5, 0.0, 1.0)
    return (3.0 - 2.0 * t) * t * t


def texture(rng: np.random.Generator, grain: float, size: int) -> Map:
    """Smooth noise ``[size, size]``, mean about 0, deviation about 1; ``grain`` is the width of its blobs."""
    cells = max(4, round(1 / grain))
    field = rng.standard_normal((cells, cells)).astype(np.float32)
    return np.asarray(Image.fromarray(field).resize((size, size), Image.Resampling.BICUBIC)) * 1.3


@dataclass(frozen=True)
class Lung:
    """One lung's shape. Each map is a signed distance, positive inside."""

    lateral: Map  # to the ribs
    top: Map  # to the apex, straight up
    floor: Map  # to the diaphragm, straight down
    mask: Map  # 0..1

    @property
    def rim(self) -> Map:
        """Distance to the pleura of the chest wall, over the apex too."""
        return np.minimum(self.lateral, self.top)


class Scene:
    """A film being drawn: where every pixel lies in the patient, and what the rays pass there.

    ``air`` (0..1.3) is the share of the depth that is aerated lung, ``markings`` (0..2) multiplies the
    vessels, ``dense`` (any sign) is what is added to the attenuation; findings change these three in place.
    """

    def __init__(self, anatomy: Anatomy, size: int) -> None:
        self.anatomy = anatomy
        self.size = size
        axis = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
        u, v = axis[None, :], axis[:, None]
        c, s = math.cos(anatomy.tilt) * anatomy.zoom, math.sin(anatomy.tilt) * anatomy.zoom
        self.x: Map = c * u + s * v - anatomy.shift_x
        self.y: Map = c * v - s * u + 0.5 - anatomy.shift_y
        self.lungs = {side: self._lung(side) for side in SIDES}
        self.heart = self._heart()
        self.middle = self._mediastinum()
        self.air = self._air()
        self.markings: Map = np.full_like(self.x, anatomy.vessels)
        self.dense: Map = np.zeros_like(self.x)

    def pixel(self, x: float, y: float) -> tuple[float, float]:
        """Column and row, in pixels, of a place in the patient."""
        a = self.anatomy
        px, py = x + a.shift_x, y + a.shift_y - 0.5
        c, s = math.cos(a.tilt) / a.zoom, math.sin(a.tilt) / a.zoom
        return (c * px - s * py + 0.5) * self.size, (s * px + c * py + 0.5) * self.size

    def _lung(self, side: int) -> Lung:
        a = self.anatomy
        q, wide = side * self.x, a.thorax_half
        span = a.base(side) - a.apex_y
        t = np.clip((self.y - a.apex_y) / (0.62 * span), 0.0, 1.0)
        below = np.clip((self.y - a.apex_y) / span - 0.62, 0.0, 1.0)
        rest = 1.0 - t
        square = rest * rest
        edge = wide * (np.sqrt(1.0 - square * np.sqrt(rest)) - 0.05 * below)
        inner = 0.85 * a.mediastinum_half + 0.035 * square * square * square
        centre = 0.5 * wide
        away = np.where(q > centre, (q - centre) / (wide - centre), 0.55 * (centre - q) / centre)
        floor = a.base(side) + a.dome_rise * away * away - self.y
        apex = a.apex_y + 3.0 * (q - 0.33 * wide) ** 2
        lateral, top = edge - q, self.y - apex
        inside = np.minimum(np.minimum(lateral, q - inner), np.minimum(floor, top))
        return Lung(lateral, top, floor, soft_step(inside, 0.014))

    def _heart(self) -> Map:
        """The heart's shadow, 0..1: as wide as the ratio says, two thirds of it right of the midline."""
        a = self.anatomy
        width = a.heart_ratio * 2 * a.thorax_half
        dx = self.x - 0.16 * width
        dy = self.y - (sum(a.base_y) / 2 - 0.66 * a.heart_height - 0.1 * width) - a.heart_shear * dx
        half, short = width / 2, a.heart_height + 0.12 * width
        tall = np.where(dy < 0, np.float32(1.25 * short), np.float32(short))
        narrow = 1.0 - 0.22 * np.clip(-dy / tall, 0.0, 1.0)
        radius = np.sqrt((dx / (half * narrow)) ** 2 + (dy / tall) ** 2)
        return soft_step((1.0 - radius) * half, 0.018)

    def _mediastinum(self) -> Map:
        """The great vessels and the spine's shadow, 0..1, with the aortic knob and the hila."""
        a = self.anatomy
        down = np.clip((self.y - a.apex_y) / 0.4, -0.2, 1.0)
        waist = a.mediastinum_half * (0.92 + 0.35 * down * down)
        band = waist - np.abs(self.x - 0.5 * a.turn)
        knob = 0.042 - np.hypot(self.x - 0.7 * a.mediastinum_half, 0.8 * (self.y - (a.apex_y + 0.18)))
        trunk = 0.045 - np.hypot(self.x - 0.8 * a.mediastinum_half, 0.7 * (self.y - (a.apex_y + 0.28)))
        return soft_step(np.maximum(band, np.maximum(knob, trunk)), 0.02)

    def _air(self) -> Map:
        shadow = (1.0 - 0.86 * self.heart) * (1.0 - 0.93 * self.middle)
        air = np.zeros_like(self.x)
        for lung in self.lungs.values():
            depth = np.minimum(lung.rim, lung.floor)
            air += lung.mask * (0.80 + 0.2 * soft_step(depth - 0.05, 0.12))
        return air * shadow * self.anatomy.air

    def hilum(self, side: int) -> tuple[float, float]:
        """Where the vessels of a lung spring from."""
        a = self.anatomy
        return side * (a.mediastinum_half + 0.018), a.apex_y + 0.29 + (0.012 if side < 0 else 0.0)

    def within(self, side: int, across: float, down: float) -> tuple[float, float]:
        """A place in a lung: ``across`` 0 (mediastinum) .. 1 (ribs), ``down`` 0 (apex) .. 1 (diaphragm)."""
        a = self.anatomy
        inner = a.mediastinum_half
        t = min(1.0, down / 0.62)
        edge = a.thorax_half * math.sqrt(t * (2 - t))
        return side * (inner + across * (edge - inner)), a.apex_y + down * (a.base(side) - a.apex_y)

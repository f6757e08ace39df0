"""How each of the 14 findings shows on a drawn film.

Some change the anatomy before anything is drawn (``deform``), all then leave a sign on the scene
(``add_sign``). A sign's place and size come from the patient, so a follow-up shows the same lesion.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from scipy import ndimage

from handlers.findings import FINDINGS
from training.synthetic.anatomy import SIDES, Anatomy, Map, Scene, soft_step, texture


def place_of(patient: Anatomy, finding: str) -> np.random.Generator:
    """The patient's own draws for a finding: the same on every film of the patient."""
    return np.random.default_rng([patient.seed, FINDINGS.index(finding)])


def _side(patient: Anatomy, place: np.random.Generator) -> int:
    return patient.weak_side if place.random() < 0.75 else -patient.weak_side


def _scaled(a: Anatomy, **factors: float) -> Anatomy:
    return replace(a, **{name: factor * getattr(a, name) for name, factor in factors.items()})


def deform(patient: Anatomy, findings: Sequence[str]) -> Anatomy:
    """The anatomy that the findings leave: a wide heart, flat or raised domes, over-filled lungs."""
    a = patient
    if "Emphysema" in findings:
        grown = place_of(a, "Emphysema").uniform(0.045, 0.07)
        a = _scaled(a, dome_rise=0.3, thorax_half=1.05, heart_ratio=0.82, rib_spacing=1.12, air=1.18, vessels=0.55)
        a = replace(a, base_y=(a.base_y[0] + grown, a.base_y[1] + grown))
    if "Cardiomegaly" in findings:
        ratio = place_of(a, "Cardiomegaly").uniform(0.58, 0.68)
        a = replace(_scaled(a, heart_height=1.1, vessels=1.15), heart_ratio=ratio)
    if "Atelectasis" in findings:
        place = place_of(a, "Atelectasis")
        side, raised = _side(a, place), place.uniform(0.05, 0.08)
        left, right = a.base_y
        a = replace(a, base_y=(left - raised, right) if side < 0 else (left, right - raised))
    return a


def _atelectasis(scene: Scene, place: np.random.Generator) -> Map:
    """One to three plates across the lower zone, above the raised dome."""
    side = _side(scene.anatomy, place)
    place.random()  # deform() draws how far the dome rose
    sign = np.zeros_like(scene.x)
    for plate in range(int(place.integers(2, 4))):
        x, y = scene.within(side, place.uniform(0.45, 0.65), 0.9 - 0.11 * plate)
        slope, bow = side * place.uniform(-0.35, 0.25), place.uniform(-1.0, 1.0)
        dx = scene.x - x
        off = np.abs(scene.y - y - slope * dx - bow * dx * dx)
        thick, long = place.uniform(0.007, 0.012), place.uniform(0.09, 0.13)
        sign = np.maximum(sign, soft_step(thick - off, 0.014) * soft_step(long - np.abs(dx), 0.05))
    return sign * scene.lungs[side].mask


def _effusion(scene: Scene, place: np.random.Generator) -> Map:
    """Fluid that fills the angle and climbs the chest wall in a meniscus."""
    side = _side(scene.anatomy, place)
    lung, a = scene.lungs[side], scene.anatomy
    high = place.uniform(0.05, 0.18)
    across = np.clip(side * scene.x / a.thorax_half, 0.0, 1.1)
    level = a.base(side) + 0.35 * a.dome_rise - high - 0.09 * across**5 + 0.05 * (1.0 - across)
    wet = soft_step(scene.y - level, 0.03) * (side * scene.x > 0)
    scene.air *= 1.0 - 0.93 * wet
    return wet * lung.mask


def _patches(scene: Scene, place: np.random.Generator, side: int, where: tuple[float, float], far: float) -> Map:
    """Patchy haze, 0..1, that fades out at the distance ``far`` from a place in a lung."""
    x, y = scene.within(side, *where)
    near = np.exp(-((scene.x - x) ** 2 + 0.7 * (scene.y - y) ** 2) / (far * far))
    clumps = 0.6 + 0.38 * texture(place, 0.03, scene.size) + 0.2 * texture(place, 0.014, scene.size)
    return np.clip(near * np.clip(clumps, 0.0, 1.6), 0.0, 1.0) * scene.lungs[side].mask


def _infiltration(scene: Scene, place: np.random.Generator) -> Map:
    """Ill-defined patches over much of a lung, often fewer of them in the other."""
    side = _side(scene.anatomy, place)
    sign = _patches(scene, place, side, (0.5, place.uniform(0.5, 0.75)), place.uniform(0.17, 0.22))
    scene.air *= 1.0 - 0.55 * sign
    if place.random() < 0.4:
        scene.air *= 1.0 - 0.35 * _patches(scene, place, -side, (0.45, 0.7), 0.14)
    return sign


def _ball(scene: Scene, place: np.random.Generator, radii: tuple[float, float], depths: tuple[float, float]) -> Map:
    """A rounded opacity with slightly uneven edges, somewhere in a lung clear of the heart."""
    radius, side = place.uniform(*radii), _side(scene.anatomy, place)
    margin = radius / scene.anatomy.thorax_half
    across = place.uniform(0.4 + 0.5 * margin, 0.88 - margin)
    x, y = scene.within(side, across, place.uniform(*depths))
    dx, dy = scene.x - x, scene.y - y
    angle = np.arctan2(dy, dx)
    uneven = 1 + 0.06 * np.sin(3 * angle + place.uniform(0, 6))
    uneven += 0.04 * np.sin(5 * angle + place.uniform(0, 6))
    return soft_step(radius * uneven - np.hypot(dx, dy), 0.008 + 0.15 * radius) * scene.lungs[side].mask


def _pneumonia(scene: Scene, place: np.random.Generator) -> Map:
    """One fuzzy patch, densest in its middle."""
    side = _side(scene.anatomy, place)
    x, y = scene.within(side, place.uniform(0.4, 0.7), place.uniform(0.5, 0.85))
    far = np.hypot(scene.x - x, scene.y - y) / place.uniform(0.075, 0.1)
    ragged = far + 0.16 * texture(place, 0.03, scene.size)
    return np.exp(-(np.clip(ragged, 0, None) ** 2)) * scene.lungs[side].mask


def _pneumothorax(scene: Scene, place: np.random.Generator) -> Map:
    """Free air over the apex and along the ribs, a hair of pleura, and nothing beyond it."""
    side = _side(scene.anatomy, place)
    lung, a = scene.lungs[side], scene.anatomy
    deep = place.uniform(0.09, 0.14)
    down = np.clip((scene.y - a.apex_y) / (a.base(side) - a.apex_y), 0.0, 1.0)
    gap = deep * (1.0 - 0.75 * down) + 0.006 * np.sin(17 * scene.y + place.uniform(0, 6)) - lung.rim
    free = soft_step(gap, 0.006) * lung.mask
    pleura = np.exp(-((gap / 0.0035) ** 2)) * lung.mask
    scene.markings *= 1.0 - free
    scene.air *= 1.0 + 0.25 * free
    scene.air *= 1.0 - 0.12 * soft_step(-gap, 0.01) * lung.mask  # what is left of the lung is less full
    scene.dense += 0.09 * pleura
    return free


def _consolidation(scene: Scene, place: np.random.Generator) -> Map:
    """A lobe without air up to its fissure, through which the bronchi show as dark streaks."""
    side = _side(scene.anatomy, place)
    lung = scene.lungs[side]
    fissure = scene.within(side, 0.5, place.uniform(0.42, 0.5))[1] + 0.25 * (side * scene.x - 0.2)
    lower = place.random() < 0.5
    lobe = soft_step(scene.y - fissure - 0.07 if lower else fissure - scene.y, 0.014)
    fade = soft_step((lung.floor if lower else lung.top) - 0.03, 0.12) if place.random() < 0.5 else 1.0
    sign: Map = lobe * fade * np.clip(0.9 + 0.14 * texture(place, 0.05, scene.size), 0.0, 1.0) * lung.mask
    hx, hy = scene.hilum(side)
    ray = np.arctan2(scene.y - hy, side * (scene.x - hx))
    bronchi = np.clip(np.sin(15 * ray + 0.5 * texture(place, 0.1, scene.size)) - 0.72, 0, None) / 0.28
    near = soft_step(0.17 - np.hypot(scene.x - hx, scene.y - hy), 0.1)
    scene.air *= 1.0 - 0.78 * sign * (1.0 - 0.35 * bronchi * near)
    scene.markings *= 1.0 - 0.8 * sign
    return sign


def _edema(scene: Scene, place: np.random.Generator) -> Map:
    """A bat's wings: haze around both hila that spares the periphery, and full upper vessels."""
    sign: Map = np.zeros_like(scene.x)
    wide = place.uniform(0.11, 0.15)
    cloud = np.clip(1.0 + 0.22 * texture(place, 0.04, scene.size), 0.3, 1.4)
    for side in SIDES:
        hx, hy = scene.hilum(side)
        dx, dy = (scene.x - hx - side * 0.05) / wide, (scene.y - hy - 0.05) / (1.25 * wide)
        sign += np.exp(-((dx * dx + dy * dy) ** 1.4)) * scene.lungs[side].mask
    scene.markings *= 1.25
    return np.clip(sign * cloud, 0.0, 1.0)


def _emphysema(scene: Scene, place: np.random.Generator) -> Map:
    """Over-filled, dark lungs are drawn already; here a few bullae in the upper zones."""
    for side in SIDES:
        for _ in range(3):
            x, y = scene.within(side, place.uniform(0.4, 0.8), place.uniform(0.12, 0.4))
            far = np.hypot(scene.x - x, scene.y - y) - place.uniform(0.025, 0.05)
            scene.markings *= 1.0 - 0.8 * soft_step(-far, 0.02)
            scene.dense += 0.02 * np.exp(-((far / 0.003) ** 2)) * scene.lungs[side].mask
    return np.maximum(scene.lungs[-1].mask, scene.lungs[1].mask)


def _fibrosis(scene: Scene, place: np.random.Generator) -> Map:
    """A net of fine lines at both bases and along the ribs."""
    coarse, fine = (np.exp(-((texture(place, grain, scene.size) / 0.22) ** 2)) for grain in (0.020, 0.014))
    where = np.zeros_like(scene.x)
    for lung in scene.lungs.values():
        bottom = soft_step(0.17 - lung.floor, 0.16)
        edge = 0.6 * soft_step(0.05 - lung.lateral, 0.06) * soft_step(0.4 - lung.floor, 0.3)
        where += np.maximum(bottom, edge) * lung.mask
    scene.air *= 1.0 - 0.16 * where
    scene.air *= 1.0 - 0.4 * where * np.maximum(coarse, fine)
    return where


def _pleural_thickening(scene: Scene, place: np.random.Generator) -> Map:
    """A thick, wavy rim along the ribs and over the apex of one lung."""
    side = _side(scene.anatomy, place)
    lung = scene.lungs[side]
    thick = place.uniform(0.030, 0.044) + 0.007 * np.sin(23 * scene.y + place.uniform(0, 6))
    long = soft_step(lung.floor - place.uniform(0.0, 0.15), 0.08)
    rind = soft_step(thick - lung.rim, 0.012) * long * (side * scene.x > 0)
    scene.air *= 1.0 - 0.8 * rind
    return rind * lung.mask


def _hernia(scene: Scene, place: np.random.Generator) -> Map:
    """A round sac behind the heart: gas above, fluid below, a level between them."""
    a = scene.anatomy
    radius = place.uniform(0.06, 0.08)
    x, y = place.uniform(-0.005, 0.05), sum(a.base_y) / 2 - 0.4 * radius - place.uniform(0.0, 0.03)
    far = np.hypot(scene.x - x, (scene.y - y) / 0.9)
    sac = soft_step(radius - far, 0.008)
    gas = soft_step(0.84 * radius - far, 0.016) * soft_step(y - 0.1 * radius - scene.y, 0.008)
    scene.dense += 0.03 * sac - 0.24 * gas
    return sac


SIGNS: dict[str, tuple[Callable[[Scene, np.random.Generator], Map], float]] = {
    "Emphysema": (_emphysema, 0),
    "Cardiomegaly": (lambda scene, _: scene.heart, 0),  # deform() has widened it
    "Infiltration": (_infiltration, 0),
    "Fibrosis": (_fibrosis, 0),
    "Edema": (_edema, 0.7),
    "Pneumonia": (_pneumonia, 0.8),
    "Consolidation": (_consolidation, 0),
    "Atelectasis": (_atelectasis, 0.62),
    "Mass": (partial(_ball, radii=(0.06, 0.09), depths=(0.3, 0.72)), 0.74),
    "Nodule": (partial(_ball, radii=(0.02, 0.03), depths=(0.22, 0.8)), 0.7),
    "Pneumothorax": (_pneumothorax, 0),
    "Pleural_Thickening": (_pleural_thickening, 0),
    "Effusion": (_effusion, 0),
    "Hernia": (_hernia, 0.6),
}
"""How a finding is drawn, and the share of the lung's air that its sign then replaces (0: the drawing sees to that).

In the order they are drawn: what lies in the pleural space covers what lies in the lung.
"""

Box = tuple[float, float, float, float]
"""Left, top, width and height in pixels of a film of 1024 x 1024, whatever the size it is drawn at."""


def add_sign(scene: Scene, patient: Anatomy, finding: str) -> Box:
    """Draw a finding's sign on the scene, in place, and say where it is."""
    draw, airless = SIGNS[finding]
    sign = draw(scene, place_of(patient, finding))
    scene.air *= 1.0 - airless * sign
    shown = sign > min(0.35, 0.5 * float(sign.max()))
    rows, columns = ndimage.find_objects(shown.astype(np.uint8))[0]
    unit = 1024 / scene.size
    wide, tall = columns.stop - columns.start, rows.stop - rows.start
    return columns.start * unit, rows.start * unit, wide * unit, tall * unit

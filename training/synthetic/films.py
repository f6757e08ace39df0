"""Chest films drawn by code: no patient was ever in front of them."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from training.synthetic.anatomy import SIDES, Anatomy, Map, Scene, pose, soft_step, texture
from training.synthetic.findings import SIGNS, Box, add_sign, deform

BURNT_IN = "SYNTHETIC"


def draw_film(
    patient: Anatomy, findings: Sequence[str], rng: np.random.Generator, size: int = 512, view: str = "PA"
) -> tuple[npt.NDArray[np.uint8], dict[str, Box]]:
    """Draw one film of a patient.

    Returns the film, ``[size, size]`` uint8 with air black and bone white, and a box for each finding. The
    same ``rng`` state gives the same stance, exposure and noise whatever the findings are.
    """
    stance, noise = rng.spawn(2)
    scene = Scene(deform(pose(patient, view, stance), findings), size)
    boxes = {finding: add_sign(scene, patient, finding) for finding in SIGNS if finding in findings}
    dense = _soft_tissue(scene) + _bones(scene) + scene.dense
    vessels = (0.15 * _vessels(scene) + 0.085 * _hila(scene)) * scene.markings
    dense += (vessels - 0.43) * scene.air - _airways(scene)
    film = Image.fromarray(_expose(dense, scene.anatomy, noise))
    _write_on(film, scene.anatomy)
    return np.asarray(film), boxes


def _soft_tissue(scene: Scene) -> Map:
    """Attenuation (0..1) of skin, fat, muscle and abdomen, as if the lungs were solid."""
    a, x, y = scene.anatomy, scene.x, scene.y
    shoulder = np.clip((y + 0.02) / 0.19, 0.0, 1.0)
    half = 0.12 + (a.thorax_half - 0.02 + 0.05 * a.fat) * np.sqrt(shoulder) - 0.03 * np.clip(y - 0.3, 0, 0.4)
    body = soft_step(half - np.abs(x), 0.05)
    thick = 0.52 + 0.05 * a.fat + 0.16 * np.exp(-((x / 0.17) ** 2)) + 0.05 * (y - 0.5)
    under = np.zeros_like(x)
    for lung in scene.lungs.values():
        under = np.maximum(under, soft_step(-lung.floor - 0.02, 0.12) * soft_step(0.04 + lung.lateral, 0.1))
    thick += 0.11 * under
    bubble = np.hypot((x - 0.17) / 0.075, (y - a.base(1) - 0.055) / 0.032)
    thick -= 0.16 * max(0.0, a.gas) * soft_step(1.0 - bubble, 0.35) * soft_step(-scene.lungs[1].floor - 0.012, 0.01)
    if a.sex == "F":
        for side in SIDES:
            breast = np.hypot(side * x - 0.62 * a.thorax_half, 0.95 * (y - 0.60)) - 0.155
            thick += 0.055 * soft_step(-breast, 0.03) * soft_step(y - 0.5, 0.3)
    return body * thick


def _bones(scene: Scene) -> Map:
    """Attenuation (0..0.2) that ribs, spine, clavicles and shoulder blades add."""
    a, x, y = scene.anatomy, scene.x, scene.y
    across = np.abs(x) / a.thorax_half
    cage = np.minimum(scene.lungs[-1].lateral, scene.lungs[1].lateral)
    inside = soft_step(cage + 0.022, 0.02) * soft_step(y - a.apex_y + 0.02, 0.06) * soft_step(0.95 - y, 0.15)
    floor = np.where(x < 0, scene.lungs[-1].floor, scene.lungs[1].floor)
    inside *= 0.45 + 0.55 * soft_step(floor + 0.03, 0.08)
    behind = _rib_rows((y - a.apex_y - a.rib_slope * (across - 0.25) ** 2 * 1.8) / a.rib_spacing)
    ahead = _rib_rows((y - a.apex_y + 1.7 * a.rib_slope * across) / (1.12 * a.rib_spacing) + 0.4)
    front = soft_step(across - 0.5, 0.35)
    ribs = 0.095 * behind * soft_step(across - 0.1, 0.15) + 0.045 * ahead * front
    bones: Map = a.rib_contrast * inside * ribs
    column = soft_step(0.036 - np.abs(x), 0.012)
    discs = 0.65 + 0.35 * np.sin(2 * math.pi * y / (0.82 * a.rib_spacing))
    bones += 0.05 * column * discs
    top = slice(0, scene.size // 2)
    bones[top] += _shoulders(a, x[top], y[top])
    return bones


def _shoulders(a: Anatomy, x: Map, y: Map) -> Map:
    """Attenuation (0..0.13) that clavicles and shoulder blades add, at the places given."""
    bones: Map = np.zeros_like(x)
    for side in SIDES:
        q = side * x - side * a.turn
        line = a.clavicle_y - 0.16 * (q - 0.05) + 0.010 * np.sin(13 * q)
        off = np.abs(y - line) / (0.013 + 0.010 * np.exp(-(((q - 0.05) / 0.03) ** 2)))
        length = soft_step(q - 0.035, 0.015) * soft_step(0.37 - q, 0.04)
        bones += length * (0.065 * soft_step(1.0 - off, 0.4) + 0.03 * np.exp(-(((off - 0.85) / 0.2) ** 2)))
        hollow = np.clip(0.36 - y, 0.0, 0.3)
        blade = side * x - (a.thorax_half + 0.005 - 0.7 * hollow * hollow)
        bones += 0.035 * soft_step(blade, 0.012) * soft_step(0.4 - y, 0.08) * soft_step(y - 0.16, 0.06)
    return bones


def _rib_rows(phase: Map) -> Map:
    """Bands of one rib a unit of phase, brighter at their edges, 0..1."""
    off = np.abs(phase - np.floor(phase) - 0.5)
    return 0.6 * soft_step(0.17 - off, 0.06) + 0.4 * np.exp(-(((off - 0.15) / 0.035) ** 2))


def _airways(scene: Scene) -> Map:
    """Attenuation (0..0.1) that the trachea and the two main bronchi take away."""
    a, x, y = scene.anatomy, scene.x, scene.y
    carina = a.apex_y + 0.24
    spread = np.clip(y - carina, 0.0, None)
    mid = np.abs(x - a.turn + 0.004)
    tube = soft_step(0.017 - np.abs(mid - 0.9 * spread), 0.018)
    return 0.075 * tube * soft_step(carina + 0.035 - y, 0.07)


def _hila(scene: Scene) -> Map:
    """The soft knot, 0..1, that the vessels of each lung leave from."""
    knots: Map = np.zeros_like(scene.x)
    for side in SIDES:
        hx, hy = scene.hilum(side)
        knots += np.exp(-(((scene.x - hx) / 0.042) ** 2) - ((scene.y - hy) / 0.075) ** 2)
    return 2.0 * knots


def _vessels(scene: Scene) -> Map:
    """The vessels of both lungs, 0..1: trees from the hila, each patient's own, thinner at every fork."""
    rng = np.random.default_rng(scene.anatomy.seed)
    canvas = Image.new("L", (2 * scene.size, 2 * scene.size))
    pen = ImageDraw.Draw(canvas)

    def grow(side: int, x: float, y: float, angle: float, width: float) -> None:
        """Draw one piece of a vessel and all that grows from its end; an angle of 0 is outward, a positive one down."""
        step = rng.uniform(0.022, 0.042)
        to_x, to_y = x + side * step * math.cos(angle), y + step * math.sin(angle)
        points = [(2 * column, 2 * row) for column, row in (scene.pixel(x, y), scene.pixel(to_x, to_y))]
        pen.line(points, fill=round(255 * min(1.0, 0.35 + 70 * width)), width=max(1, round(2 * width * scene.size)))
        if width < 0.0018 or abs(to_x) > 0.48:
            return
        on = 0.97 * angle + rng.normal(0, 0.17)
        if rng.random() <= 0.42:
            fork = float(rng.choice((-1, 1))) * rng.uniform(0.35, 0.8)
            grow(side, to_x, to_y, angle + fork, 0.7 * width)
        grow(side, to_x, to_y, on, 0.87 * width)

    for side in SIDES:
        hx, hy = scene.hilum(side)
        for start in np.linspace(-1.5, 1.6, 8):
            angle = float(start) + rng.normal(0, 0.15)
            grow(side, hx, hy + 0.05 * math.sin(angle), angle, rng.uniform(0.007, 0.011))
    drawn = np.asarray(canvas.reduce(2), dtype=np.float32) / 255
    return ndimage.gaussian_filter(drawn, 0.0014 * scene.size, truncate=3)


def _expose(dense: Map, anatomy: Anatomy, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """The film that the attenuation leaves: blurred by the focal spot, uneven, noisy, with a tone curve."""
    size = dense.shape[0]
    dense = dense + 0.010 * texture(rng, 0.2, size) + 0.006 * texture(rng, 0.03, size)
    dense = ndimage.gaussian_filter(dense, 0.0016 * size, truncate=3)
    tone = np.clip(1.06 * anatomy.gain * dense + 0.01, 0.0, 1.2) ** anatomy.gamma
    tone += anatomy.grain * rng.standard_normal(dense.shape, dtype=np.float32)
    return np.clip(255 * tone, 0, 250).astype(np.uint8)


def _write_on(film: Image.Image, anatomy: Anatomy) -> None:
    """Burn in what the film is, the same on each, and the side marker that the patient's films carry."""
    size = film.width
    pen = ImageDraw.Draw(film)
    font = ImageFont.load_default(max(8, round(0.028 * size)))
    thin = max(1, size // 400)
    pen.text((0.02 * size, 0.955 * size), BURNT_IN, 225, font, stroke_width=thin, stroke_fill=30)
    lead = ImageFont.load_default(max(10, round(0.06 * size)))
    column = 0.91 if anatomy.marker == "L" else 0.045
    pen.text((column * size, 0.05 * size), anatomy.marker, fill=240, font=lead)

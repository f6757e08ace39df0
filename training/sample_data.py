"""Makes a data set in the layout of NIH ChestX-ray14 out of drawn films, for a machine that has no data.

``python -m training.sample_data --out data/sample`` writes the tables, the lists and the films that NIH's
archive on Kaggle holds. The films show no patient, and a model trained on them means nothing.
"""

import argparse
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin
from tqdm import tqdm

from handlers.findings import FINDINGS, NO_FINDING
from training.data.films import SYNTHETIC_MARK
from training.synthetic.anatomy import make_anatomy
from training.synthetic.films import draw_film
from training.synthetic.findings import Box
from workflows import command_line
from workflows.files.atomic import written_folder

SYNTHETIC_TEXT = """\
Every film in this folder was drawn by a program (training/sample_data.py of CXR Cascade).
There is no patient in it: names, ages, findings and boxes are made up.
A model trained on these films means nothing medically. They are here to try the programs.
"""
DESCRIPTION = "Synthetic film made by CXR Cascade: drawn by code, no patient."

ENTRY_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
BOX_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
BOX_NAMES = {name: name for name in FINDINGS[: FINDINGS.index("Consolidation")]} | {"Infiltration": "Infiltrate"}
"""The eight findings that NIH drew boxes for, by the name its box file has for each."""

PREVALENCE = {
    "Infiltration": 17.7,
    "Effusion": 11.9,
    "Atelectasis": 10.3,
    "Nodule": 5.6,
    "Mass": 5.2,
    "Pneumothorax": 4.7,
    "Consolidation": 4.2,
    "Pleural_Thickening": 3.0,
    "Cardiomegaly": 2.5,
    "Emphysema": 2.2,
    "Edema": 2.1,
    "Fibrosis": 1.5,
    "Pneumonia": 1.3,
    "Hernia": 0.2,
}
"""Percent of NIH's films, the commonest first."""

TOGETHER = {
    ("Effusion", "Atelectasis"): 4.0,
    ("Effusion", "Infiltration"): 3.0,
    ("Atelectasis", "Infiltration"): 2.5,
    ("Edema", "Cardiomegaly"): 4.0,
    ("Edema", "Effusion"): 4.0,
    ("Edema", "Infiltration"): 2.5,
    ("Pneumonia", "Infiltration"): 5.0,
    ("Pneumonia", "Edema"): 2.5,
    ("Cardiomegaly", "Effusion"): 2.5,
    ("Consolidation", "Effusion"): 2.5,
    ("Mass", "Nodule"): 2.5,
    ("Emphysema", "Pneumothorax"): 3.0,
    ("Fibrosis", "Pleural_Thickening"): 2.5,
    ("Emphysema", "Edema"): 0.1,
    ("Emphysema", "Cardiomegaly"): 0.1,
}
"""How much likelier than by chance (1) two findings meet in a patient."""

TEST_SHARE, SICK_SHARE, KEEPS = 0.2, 0.58, 0.85
FLOOR = {"train": (6, 16), "test": (3, 5)}
"""The fewest patients and films with each finding, in each list."""


@dataclass(frozen=True)
class Patient:
    """A made-up patient, and how many films he or she has."""

    number: int
    sex: str
    age: int
    films: int


@dataclass(frozen=True)
class FilmPlan:
    """What one film is to show. ``findings`` are in NIH's order, none for a film without a finding."""

    patient: int
    follow_up: int
    split: str
    sex: str
    age: int
    view: str
    findings: tuple[str, ...]
    seed: int

    @property
    def name(self) -> str:
        return f"{self.patient:08d}_{self.follow_up:03d}.png"


def plan_films(films: int, patients: int, seed: int) -> list[FilmPlan]:
    """Who has how many films, on which list, with which findings; by patient and follow-up.

    With 600 films of 200 patients each finding is on at least the films and patients that ``FLOOR`` says, in
    both lists. A set too small for that gets as close as it can.
    """
    if not 1 <= patients <= films:
        raise ValueError(f"{films} films of {patients} patients: each patient needs at least one film.")
    rng = np.random.default_rng([seed, 0])
    people = _people(films, patients, rng)
    test = _some_of(people, TEST_SHARE, rng)
    plans = _plan_split([person for person in people if person not in test], "train", rng)
    plans += _plan_split([person for person in people if person in test], "test", rng)
    return sorted(plans, key=lambda plan: plan.name)


def _people(films: int, patients: int, rng: np.random.Generator) -> list[Patient]:
    """All patients; most have one film or two, some have many."""
    eager = rng.gamma(1.2, 1.0, patients)
    counts = 1 + rng.multinomial(films - patients, eager / eager.sum())
    people = []
    for number, count in enumerate(counts, start=1):
        sex, age = str(rng.choice(["M", "F"], p=[0.56, 0.44])), int(np.clip(rng.normal(50, 16), 18, 90))
        people.append(Patient(number, sex, age, int(count)))
    return people


def _some_of(people: Sequence[Patient], share: float, rng: np.random.Generator) -> list[Patient]:
    """Patients in random order who have, together, about this share of the films."""
    chosen = []
    wanted = share * sum(person.films for person in people)
    for index in rng.permutation(len(people)):
        if wanted >= 0.5 * people[index].films:
            chosen.append(people[index])
            wanted -= people[index].films
    return chosen


def _plan_split(people: Sequence[Patient], split: str, rng: np.random.Generator) -> list[FilmPlan]:
    shown = _findings_of_films(_some_of(people, SICK_SHARE, rng), split, rng)
    plans = []
    for person in people:
        for visit in range(person.films):
            findings = shown.get((person.number, visit), set())
            plans.append(
                FilmPlan(
                    patient=person.number,
                    follow_up=visit,
                    split=split,
                    sex=person.sex,
                    age=min(95, person.age + visit // 2),
                    view="AP" if rng.random() < (0.45 if findings else 0.35) else "PA",
                    findings=tuple(name for name in FINDINGS if name in findings),
                    seed=int(rng.integers(2**31)),
                )
            )
    return plans


def _findings_of_films(
    sick: Sequence[Patient], split: str, rng: np.random.Generator
) -> dict[tuple[int, int], set[str]]:
    """The findings of each sick patient's films, by patient and follow-up: most of what the patient has."""
    least_people, least_films = FLOOR[split]
    have = _findings_of_patients(sick, least_people, rng)
    shown = {
        (person.number, visit): {name for name in FINDINGS if name in have[person.number] and rng.random() < KEEPS}
        for person in sick
        for visit in range(person.films)
    }
    for name in FINDINGS:
        bearers = {number for number in have if name in have[number]}
        for number in bearers - {number for number, visit in shown if name in shown[number, visit]}:
            shown[number, 0].add(name)  # a finding that chance left on no film of a patient comes back on the first
        missing = least_films - sum(name in findings for findings in shown.values())
        bearers_first = sorted(shown, key=lambda film: film[0] not in bearers)
        room = [film for film in bearers_first if name not in shown[film]]
        for film in room[: max(0, missing)]:
            shown[film].add(name)
    return shown


def _findings_of_patients(sick: Sequence[Patient], least: int, rng: np.random.Generator) -> dict[int, set[str]]:
    """Deal the findings out, the rare ones first: about two a patient, often those that go together."""
    have: dict[int, set[str]] = {person.number: set() for person in sick}
    total = sum(PREVALENCE.values())
    rare_first = list(reversed(PREVALENCE))
    for name in rare_first:
        share = max(least, round(1.75 * len(sick) * PREVALENCE[name] / total))
        for _ in range(min(share, len(sick))):
            free = [number for number in have if name not in have[number]]
            weights = np.array([_liking(name, have[number]) for number in free])
            have[int(rng.choice(free, p=weights / weights.sum()))].add(name)
    for findings in have.values():
        if not findings:
            findings.add(str(rng.choice(rare_first[-6:])))
    return have


def _liking(name: str, others: set[str]) -> float:
    """How readily a finding joins those a patient has: few, and those it is often seen with."""
    weight = (1.0, 0.5, 0.15, 0.03)[min(3, len(others))]
    for other in others:
        weight *= TOGETHER.get((name, other), TOGETHER.get((other, name), 1.0))
    return weight


def _write_film(job: tuple[Path, int, FilmPlan]) -> dict[str, Box]:
    """Draw and save one film; return the boxes of its findings."""
    folder, seed, plan = job
    patient = make_anatomy(np.random.default_rng([seed, 1, plan.patient]), plan.sex)
    film, boxes = draw_film(patient, plan.findings, np.random.default_rng([plan.seed, 2]), view=plan.view)
    text = PngImagePlugin.PngInfo()
    text.add_text("Description", DESCRIPTION)
    Image.fromarray(film).save(folder / plan.name, pnginfo=text, compress_level=2)
    return boxes


def _keep_freed_memory() -> None:
    """Have glibc keep what is freed: it raises its threshold to the largest block it saw freed (32 MB at most).

    A film takes some hundred maps of 1 MB; getting each from the kernel anew is a third of the time.
    """
    np.empty(30 << 20, np.uint8)


def _draw_all(folder: Path, plans: Sequence[FilmPlan], seed: int, workers: int) -> list[dict[str, Box]]:
    jobs = [(folder, seed, plan) for plan in plans]
    watched = partial(tqdm, total=len(jobs), desc="Drawing films", unit="film", disable=None)
    if workers < 2:
        _keep_freed_memory()
        return list(watched(map(_write_film, jobs)))
    # spawn: the same on every system, and safe where the caller has threads
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _keep_freed_memory) as pool:
        return list(watched(pool.map(_write_film, jobs, chunksize=4)))


def _write_tables(folder: Path, plans: Sequence[FilmPlan], boxes: Sequence[dict[str, Box]], seed: int) -> None:
    rng = np.random.default_rng([seed, 3])
    entries, frames = [ENTRY_HEADER], [BOX_HEADER]
    for plan, found in zip(plans, boxes, strict=True):
        labels = "|".join(sorted(plan.findings)) or NO_FINDING
        original = "2500,2048,0.168,0.168" if rng.random() < 0.7 else "3056,2544,0.139,0.139"
        if plan.view == "PA":
            pixel = "0.14300000000000002"
            original = f"{rng.integers(2400, 3000)},{rng.integers(2500, 3000)},{pixel},{pixel}"
        who = f"{plan.follow_up},{plan.patient},{plan.age},{plan.sex},{plan.view}"
        entries.append(f"{plan.name},{labels},{who},{original}")
        for finding, box in found.items():
            if finding in BOX_NAMES:
                numbers = ",".join(f"{edge:g}" for edge in box)
                frames.append(f"{plan.name},{BOX_NAMES[finding]},{numbers},,,")
    files = {
        "Data_Entry_2017.csv": entries,
        "BBox_List_2017.csv": frames,
        "train_val_list.txt": [plan.name for plan in plans if plan.split == "train"],
        "test_list.txt": [plan.name for plan in plans if plan.split == "test"],
    }
    for name, lines in files.items():
        (folder / name).write_text("".join(line + "\n" for line in lines), encoding="utf-8", newline="\n")


def make_sample_data(
    out: Path, films: int = 600, patients: int = 200, seed: int = 0, workers: int | None = None
) -> None:
    """Write a drawn data set to ``out``: 512 x 512 films in NIH's layout. Same numbers, same bytes.

    ``out`` appears only when the set is whole. An older drawn set there is replaced. ``workers`` is how many
    processes draw (None: as many as are worth it).

    Raises:
        FileExistsError: ``out`` exists and has no ``SYNTHETIC_MARK``, so it is not ours to replace.
        NotWritten: the disk is full.
        ValueError: fewer films than patients.
    """
    out = out.resolve()
    if out.exists() and not (out / SYNTHETIC_MARK).is_file():
        raise FileExistsError(f"{out} exists and has no {SYNTHETIC_MARK}: not a sample set, so it stays.")
    plans = plan_films(films, patients, seed)
    if workers is None:
        workers = min(os.cpu_count() or 1, 8, films // 32)
    with written_folder(out) as new:
        images = new / "images_001" / "images"
        images.mkdir(parents=True)
        boxes = _draw_all(images, plans, seed, workers)
        _write_tables(new, plans, boxes, seed)
        (new / SYNTHETIC_MARK).write_text(SYNTHETIC_TEXT, encoding="utf-8", newline="\n")


def main(arguments: Sequence[str] | None = None, prog: str = "python -m training.sample_data") -> None:
    """Read the command line and write the set."""
    parser = argparse.ArgumentParser(prog=prog, description="Write a drawn data set in the layout of NIH ChestX-ray14.")
    parser.add_argument("--out", type=Path, required=True, help="the folder to make")
    parser.add_argument("--films", type=int, default=600, help="how many films (default: 600)")
    parser.add_argument("--patients", type=int, default=200, help="of how many patients (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="another seed draws other patients (default: 0)")
    asked = parser.parse_args(arguments)
    try:
        make_sample_data(asked.out, asked.films, asked.patients, asked.seed)
    except (FileExistsError, ValueError) as error:
        parser.error(str(error))
    print(f"{asked.films} drawn films of {asked.patients} patients are in {asked.out}")


if __name__ == "__main__":
    command_line.run(main)

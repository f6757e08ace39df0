"""``deploy/Containerfile``, read as a builder reads it."""

import json
import re
from pathlib import Path

FILE = Path(__file__).parents[2] / "deploy" / "Containerfile"


def steps() -> list[tuple[str, str]]:
    """Each instruction and its words, in order; comments are left out, continued lines joined."""
    text = re.sub(r"^#.*\n", "", FILE.read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\s*\\\n\s*", " ", text).splitlines()
    return [(name, words) for name, _, words in (line.partition(" ") for line in lines if line)]


def words_of(instruction: str) -> list[str]:
    """Those of each such instruction."""
    return [words for name, words in steps() if name == instruction]


def environment() -> dict[str, str]:
    """That the image sets."""
    return dict(pair.split("=", 1) for words in words_of("ENV") for pair in words.split())


def command() -> list[str]:
    """That a container runs."""
    return json.loads(words_of("ENTRYPOINT")[-1])


def copied() -> list[tuple[str, str]]:
    """Sources in the project's folder, and where each goes, relative to ``WORKDIR`` or absolute."""
    return [(source, words.split()[-1]) for words in words_of("COPY") for source in words.split()[:-1]]

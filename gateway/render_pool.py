"""Films to pictures, in processes of their own: hostile bytes may crash or stall a decoder, but not the gateway.

This file is both sides: the class ``RenderPool``, and, run as a module, the process. The process reads 8 bytes of length
and a film, and answers with 8 bytes of length and a PNG, or with length 0, 8 bytes of length and a refusal in JSON.
"""

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from handlers.decoding.image import read_film
from handlers.refusals import CODES, RefusedFilm
from handlers.report import Refusal

SECONDS = 15.0
"""From a film handed over to its picture, a process's start included."""
FAST = 1
"""zlib's level: on loopback time counts, not size."""
ROOT = Path(__file__).parents[1]


class RenderPool:
    """Processes that render one film each at a time; they start with the first films, and end with the gateway.

    Args:
        processes: films at once; more wait.
    """

    def __init__(self, processes: int) -> None:
        self._idle: asyncio.LifoQueue[Process | None] = asyncio.LifoQueue()
        for _ in range(processes):
            self._idle.put_nowait(None)

    async def render(self, film: bytes) -> bytes | Refusal:
        """8-bit grey PNG at the film's full resolution: what the model gets, before it is made square."""
        process, good = await self._idle.get(), False
        try:
            if process is None or process.returncode is not None:
                process = await _start()
            async with asyncio.timeout(SECONDS):
                answer = await _exchange(process, film)
            good = True
            return answer
        except TimeoutError:
            return Refusal.because(CODES["DecodeTimeout"], "DecodeTimeout", f"no picture within {SECONDS:g} s")
        except (OSError, EOFError):
            return Refusal.because(CODES["UnreadableImage"], "UnreadableImage", "the decoder did not survive the film")
        finally:
            if process and not good:
                with suppress(ProcessLookupError):
                    process.kill()
            self._idle.put_nowait(process if good else None)


async def _start() -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway.render_pool", stdin=PIPE, stdout=PIPE, stderr=DEVNULL, cwd=ROOT
    )


async def _exchange(process: Process, film: bytes) -> bytes | Refusal:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(len(film).to_bytes(8, "big"))
    process.stdin.write(film)
    await process.stdin.drain()
    picture = await process.stdout.readexactly(await _length(process.stdout))
    if picture:
        return picture
    return Refusal.model_validate_json(await process.stdout.readexactly(await _length(process.stdout)))


async def _length(stream: asyncio.StreamReader) -> int:
    return int.from_bytes(await stream.readexactly(8), "big")


def serve(films: BinaryIO, pictures: BinaryIO) -> None:
    """The process: films in, pictures out, until its owner closes the pipe or dies."""
    while length := films.read(8):
        answer = render(films.read(int.from_bytes(length, "big")))
        if isinstance(answer, Refusal):
            pictures.write(bytes(8))
            answer = answer.model_dump_json().encode()
        pictures.write(len(answer).to_bytes(8, "big"))
        pictures.write(answer)
        pictures.flush()


def render(film: bytes) -> bytes | Refusal:
    """One film, in the process."""
    try:
        picture = BytesIO()
        Image.fromarray(read_film(film)).save(picture, "PNG", compress_level=FAST)
        return picture.getvalue()
    except RefusedFilm as refused:
        return Refusal.because(refused.code, refused.type, refused.message)


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)

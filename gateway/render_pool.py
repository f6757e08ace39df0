"""Films to pictures, in processes of their own: hostile bytes may crash or stall a decoder, but not the gateway."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

from PIL import Image

from handlers.decoding.image import read_film
from handlers.decoding.process_pool import ProcessPool
from handlers.refusals import RefusedFilm
from handlers.report import Refusal

CPU_SECONDS = 15.0
"""Processor time from a film to its picture."""
FAST = 1
"""zlib's level: on loopback time counts, not size."""


class RenderPool:
    """Renders films side by side.

    Args:
        processes: films at once; more wait.
    """

    def __init__(self, processes: int) -> None:
        self._threads = ThreadPoolExecutor(processes, "render")  # each waits for its process
        self._processes = ProcessPool("gateway.render_pool:draw", CPU_SECONDS)

    async def render(self, film: bytes) -> bytes | Refusal:
        """8-bit grey PNG at the film's full resolution: what the model gets, before it is made square."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._processes.call, film)
        except RefusedFilm as refused:
            return Refusal.because(refused.code, refused.type, refused.message)


def draw(film: bytes) -> bytes:
    """One film, in the process.

    Raises:
        RefusedFilm: as ``read_film`` does.
    """
    picture = BytesIO()
    Image.fromarray(read_film(film)).save(picture, "PNG", compress_level=FAST)
    return picture.getvalue()

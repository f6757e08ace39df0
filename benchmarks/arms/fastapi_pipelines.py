"""A plain FastAPI app around two transformers pipelines.

As transformers' page "Web server inference" shows it, its dynamic batching included: requests go to a queue, one loop
takes what is there and runs the pipelines in one thread.
https://huggingface.co/docs/transformers/pipeline_webserver
"""

import asyncio
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from transformers import pipeline

from benchmarks.arms.cascade import DEVICE, DTYPE, checkpoint, open_film, threshold
from benchmarks.arms.tally import Tally
from handlers.findings import FINDINGS

BATCH = 16
WAIT = 0.005

Queue = asyncio.Queue[tuple[bytes, asyncio.Future[dict[str, Any]]]]


class Reader:
    def __init__(self) -> None:
        stages = ("binary", "disease")
        self.binary, self.disease = (
            pipeline("image-classification", model=str(checkpoint(stage)), device=DEVICE, dtype=DTYPE)
            for stage in stages
        )
        self.binary_tally, self.disease_tally = Tally("binary"), Tally("disease")
        self.threshold = threshold()

    def read(self, films: list[bytes]) -> list[dict[str, Any]]:
        images = [open_film(film) for film in films]
        found = self.binary(images, batch_size=len(images), function_to_apply="sigmoid", top_k=1)
        self.binary_tally.add(len(images))
        findings = [one[0]["score"] for one in found]
        routed = [image for image, finding in zip(images, findings, strict=True) if finding >= self.threshold]
        named = iter(self._name(routed) if routed else [])
        return [
            {"finding": finding, "diseases": next(named) if finding >= self.threshold else None} for finding in findings
        ]

    def _name(self, images: list[Any]) -> list[list[float]]:
        self.disease_tally.add(len(images))
        answers = self.disease(images, batch_size=len(images), function_to_apply="sigmoid", top_k=len(FINDINGS))
        scores = [{row["label"]: row["score"] for row in answer} for answer in answers]
        return [[of[name] for name in FINDINGS] for of in scores]


async def serve_queue(queue: Queue, reader: Reader) -> None:
    loop, one_thread = asyncio.get_running_loop(), ThreadPoolExecutor(1)
    while True:
        waiting = [await queue.get()]
        while len(waiting) < BATCH:
            try:
                waiting.append(await asyncio.wait_for(queue.get(), WAIT))
            except TimeoutError:
                break
        try:
            answers = await loop.run_in_executor(one_thread, reader.read, [film for film, _ in waiting])
        except Exception as fault:
            for _, future in waiting:
                future.set_exception(RuntimeError(repr(fault)))
            continue
        for (_, future), answer in zip(waiting, answers, strict=True):
            if not future.done():
                future.set_result(answer)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.queue = Queue()
    task = asyncio.create_task(serve_queue(app.state.queue, Reader()))
    yield
    task.cancel()


app = FastAPI(lifespan=lifespan)


@app.post("/read")
async def read(request: Request) -> dict[str, Any]:
    answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    await request.app.state.queue.put((await request.body(), answer))
    return await answer


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning")

"""Ray Serve: an ingress, and a deployment per model, composed with handles and batched.

As its pages "Deploy Compositions of Models" (the second model is called on what the first one let through), "Dynamic
Request Batching" and the PyTorch tutorial (torchvision's transforms) show it.
https://docs.ray.io/en/latest/serve/model_composition.html
"""

import os
import signal
from typing import Any

import ray
import torch
from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request
from torchvision import transforms
from transformers import ViTForImageClassification

from benchmarks.arms.cascade import DEVICE, DTYPE, checkpoint, open_film, threshold
from benchmarks.arms.tally import Tally
from handlers.metadata import Metadata

IN_FLIGHT = 64
CORES = os.cpu_count() or 1


@serve.deployment(max_ongoing_requests=IN_FLIGHT, ray_actor_options={"num_cpus": 0.45 * CORES})
class Stage:
    def __init__(self, stage: str) -> None:
        torch.set_num_threads(max(1, CORES // 2))  # the two stages share the cores
        self.model = ViTForImageClassification.from_pretrained(checkpoint(stage), dtype=DTYPE).to(DEVICE).eval()
        self.tally = Tally(stage)

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.005)
    async def __call__(self, films: list[torch.Tensor]) -> list[list[float]]:
        self.tally.add(len(films))
        with torch.inference_mode():
            return self.model(pixel_values=torch.stack(films).to(DEVICE, DTYPE)).logits.float().sigmoid().tolist()


@serve.deployment(max_ongoing_requests=IN_FLIGHT, ray_actor_options={"num_cpus": 0.1 * CORES})
class Ingress:
    def __init__(self, binary: DeploymentHandle, disease: DeploymentHandle) -> None:
        self.binary, self.disease, self.threshold = binary, disease, threshold()
        about = Metadata.read(checkpoint("binary"))
        self.preprocessor = transforms.Compose(
            [
                transforms.Resize((about.image_size, about.image_size)),
                transforms.ToTensor(),
                transforms.Normalize(about.mean, about.std),
            ]
        )

    async def __call__(self, request: Request) -> dict[str, Any]:
        film = self.preprocessor(open_film(await request.body()))
        (finding,) = await self.binary.remote(film)
        if finding < self.threshold:
            return {"finding": finding, "diseases": None}
        return {"finding": finding, "diseases": await self.disease.remote(film)}


if __name__ == "__main__":
    ray.init(num_cpus=CORES, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PORT"]), "request_timeout_s": 60})
    app = Ingress.bind(Stage.options(name="Binary").bind("binary"), Stage.options(name="Disease").bind("disease"))
    serve.run(app, route_prefix="/read")
    signal.sigwait([signal.SIGTERM, signal.SIGINT])
    ray.shutdown()

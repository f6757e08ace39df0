"""LitServe with both models in one LitAPI, batched.

As its pages "LitAPI" (both models are loaded in ``setup`` and called in ``predict``), "Batching" and "Request, response
format" (a film as a form's file) show it. https://lightning.ai/docs/litserve
"""

import os
from typing import Any

import litserve as ls
import torch
from PIL import Image
from transformers import AutoImageProcessor, ViTForImageClassification

from benchmarks.arms.cascade import DEVICE, DTYPE, checkpoint, open_film, threshold
from benchmarks.arms.tally import Tally


class Cascade(ls.LitAPI):
    def setup(self, device: str) -> None:
        self.processor = AutoImageProcessor.from_pretrained(checkpoint("binary"))
        self.binary, self.disease = (
            ViTForImageClassification.from_pretrained(checkpoint(stage), dtype=DTYPE).to(DEVICE).eval()
            for stage in ("binary", "disease")
        )
        self.threshold = threshold()
        self.binary_tally, self.disease_tally = Tally("binary"), Tally("disease")

    def decode_request(self, request) -> Image.Image:
        return open_film(request["film"].file.read())

    def batch(self, inputs: list[Image.Image]) -> torch.Tensor:
        return self.processor(images=inputs, return_tensors="pt")["pixel_values"].to(DEVICE, DTYPE)

    @torch.inference_mode()
    def predict(self, x: torch.Tensor) -> list[dict[str, Any]]:
        findings = self.binary(pixel_values=x).logits.float().sigmoid()[:, 0]
        self.binary_tally.add(len(x))
        routed = findings >= self.threshold
        answers: list[dict[str, Any]] = [{"finding": finding, "diseases": None} for finding in findings.tolist()]
        if routed.any():
            diseases = self.disease(pixel_values=x[routed]).logits.float().sigmoid().tolist()
            self.disease_tally.add(len(diseases))
            for place, scores in zip(routed.nonzero()[:, 0].tolist(), diseases, strict=True):
                answers[place]["diseases"] = scores
        return answers

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return output

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output


if __name__ == "__main__":
    api = Cascade(max_batch_size=16, batch_timeout=0.005, api_path="/read")
    server = ls.LitServer(api, accelerator="cpu" if DEVICE.type == "cpu" else "auto", timeout=60)
    server.run(host="127.0.0.1", port=int(os.environ["PORT"]), generate_client_file=False, log_level="warning")

"""Both model nodes, in the style of TorchServe's own workflow example: ``ts.torch_handler``'s steps, strings between.

The example's ``ImageClassifier`` wants captum and takes the five best classes of a softmax; these do the same steps
(base64, Pillow, torchvision's transforms) with this project's models and a sigmoid.
"""

import base64
import json

import torch
from torchvision import transforms
from transformers import ViTForImageClassification
from ts.torch_handler.base_handler import BaseHandler

from benchmarks.arms.cascade import DEVICE, DTYPE, checkpoint, open_film, threshold
from benchmarks.arms.tally import Tally
from handlers.metadata import Metadata

SKIPPED = "null"


class ViTHandler(BaseHandler):
    stage: str

    def initialize(self, context):
        self.model = ViTForImageClassification.from_pretrained(checkpoint(self.stage), dtype=DTYPE).to(DEVICE).eval()
        self.device = DEVICE
        about = Metadata.read(checkpoint(self.stage))
        self.image_processing = transforms.Compose(
            [
                transforms.Resize((about.image_size, about.image_size)),
                transforms.ToTensor(),
                transforms.Normalize(about.mean, about.std),
            ]
        )
        self.tally, self.threshold = Tally(self.stage), threshold()
        self.initialized = True

    def images(self, films):
        """Base64 strings -> [N, 3, S, S]; None where there is no film."""
        opened = [open_film(base64.b64decode(film)) for film in films]
        return torch.stack([self.image_processing(film) for film in opened]).to(DEVICE, DTYPE) if opened else None

    def inference(self, data, *args, **kwargs):
        if data is None:
            return None
        self.tally.add(len(data))
        with torch.inference_mode():
            return self.model(pixel_values=data).logits.float().sigmoid()


class Binary(ViTHandler):
    stage = "binary"

    def preprocess(self, data):
        return self.images([row.get("data") or row.get("body") for row in data])

    def postprocess(self, data):
        return [json.dumps(finding) for finding in data[:, 0].tolist()]


class Disease(ViTHandler):
    stage = "disease"

    def preprocess(self, data):
        self.findings = [float(row["binary"].decode()) for row in data]
        films = [
            row["pre_processing"] for row, finding in zip(data, self.findings, strict=True) if self.routed(finding)
        ]
        return self.images(films)

    def routed(self, finding):
        return finding >= self.threshold

    def postprocess(self, data):
        named = iter(data.tolist() if data is not None else [])
        return [
            json.dumps({"finding": finding, "diseases": next(named) if self.routed(finding) else None})
            for finding in self.findings
        ]

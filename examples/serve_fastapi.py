"""Classifies pictures over HTTP: MODEL=masked.onnx uvicorn --app-dir examples serve_fastapi:app."""

import io
import os
from typing import Annotated

import numpy as np
from fastapi import Body, FastAPI
from PIL import Image

import activsparse
from activsparse.pictures import IMAGENET_MEAN, IMAGENET_STD

app = FastAPI()
session = activsparse.Session(os.environ["MODEL"])
_, _, height, width = session.get_inputs()[0].shape


@app.post("/classify")
def classify(picture: Annotated[bytes, Body(media_type="application/octet-stream")]) -> dict:
    """The class of a picture of any size, and its score; FastAPI calls it in threads."""
    image = Image.open(io.BytesIO(picture)).convert("RGB").resize((width, height))
    pixels = (np.asarray(image, np.float32) / 255 - IMAGENET_MEAN) / IMAGENET_STD
    scores = session.run(pixels.transpose(2, 0, 1)[None].astype(np.float32)).ravel()
    return {"class": int(scores.argmax()), "score": float(scores.max())}

"""FastAPI as most tutorials have it: def, UploadFile, a response model; ONNX Runtime, no canonical, no journal."""

from fastapi import FastAPI, UploadFile
from pydantic import BaseModel

from model import probabilities

app = FastAPI()


class Answer(BaseModel):
    digit: int
    probabilities: list[float]


@app.post("/predict")
def predict(file: UploadFile) -> Answer:
    found = probabilities(file.file.read())
    return Answer(digit=int(found.argmax()), probabilities=found.tolist())

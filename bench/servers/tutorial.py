"""The form of most FastAPI tutorials: def, UploadFile, a response model. No `canonical`, no journal, no metrics."""

from fastapi import FastAPI, UploadFile
from pydantic import BaseModel

from bench.servers.inference import probabilities

app = FastAPI()


class Answer(BaseModel):
    """What the service answers, in short."""

    digit: int
    probabilities: list[float]


@app.post("/predict")
def predict(file: UploadFile) -> Answer:
    probability = probabilities(file.file.read())
    return Answer(digit=int(probability.argmax()), probabilities=probability.tolist())

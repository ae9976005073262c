"""The OpenAPI document, with the labels of the bundle that is served."""

from typing import Any

from service.labels import Labels


def described(document: dict[str, Any], labels: Labels) -> dict[str, Any]:
    """`document` with the model's labels in place of the placeholders of the routes' models.

    The routes are declared before a bundle is loaded, so they cannot know its labels.
    """
    schemas = document["components"]["schemas"]
    answer = schemas["PredictionAnswer"]
    properties = answer["properties"]
    if "label" in properties:
        field = labels.schema() | {"title": labels.field.capitalize(), "examples": [labels.values[-1]]}
        answer["properties"] = {labels.field: field} | {name: p for name, p in properties.items() if name != "label"}
        answer["required"] = [labels.field if name == "label" else name for name in answer["required"]]
        probabilities = answer["properties"]["probabilities"]
        count = len(labels.names)
        examples = [round(0.1 / (count - 1), 4)] * (count - 1) + [0.9] if count > 1 else [1.0]
        probabilities |= {"minItems": count, "maxItems": count, "examples": [examples]}
        probabilities["description"] = "one for each label, in the order " + ", ".join(labels.names)
        feedback = document["paths"]["/feedback"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        for schema in (feedback, schemas["Feedback"]):
            schema["properties"]["label"] = labels.schema() | {"title": "Label", "examples": [labels.values[-1]]}
    return document

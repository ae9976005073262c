"""A bundle of 24 letters: answers, feedback, metrics, OpenAPI and v2 speak of its labels."""

import pytest

from service.labels import Labels
from tests.bundles import ALPHABET, LETTERS, letter, make_bundle, png
from tests.service.conftest import in_process
from tests.service.test_bundles import put_another
from tests.waiting import until


@pytest.fixture(scope="module")
def letters(tmp_path_factory):
    folder = tmp_path_factory.mktemp("letters") / "bundle"
    make_bundle(folder, labels=ALPHABET, images=LETTERS)
    return folder


def test_digits_are_numbers_and_letters_are_text():
    digits, letters = Labels(list("0123456789")), Labels(["A", "B"])
    assert (digits.field, digits.values) == ("digit", tuple(range(10)))
    assert (letters.field, letters.values) == ("label", ("A", "B"))
    assert (digits.place(7), letters.place("B")) == (7, 1)
    for labels, wrong in ((digits, "7"), (digits, 10), (digits, True), (letters, 0), (letters, "C")):
        with pytest.raises(ValueError, match="is not a label of the served model, allowed are "):
            labels.place(wrong)


def test_letters_are_answered_corrected_and_counted(serve, letters, tmp_path):
    service = serve(bundle=letters, journal=f"sqlite:///{tmp_path}/journal.db")
    for text in ALPHABET:
        answer = service.http.post("/predict", content=png(letter(text))).json()
        assert answer["label"] == text
        assert "digit" not in answer
        assert len(answer["probabilities"]) == 24
    corrected = {"prediction_id": answer["prediction_id"], "label": "B"}
    assert service.http.post("/feedback", json=corrected).status_code == 201
    for wrong in (1, "b", "1"):
        refused = service.http.post("/feedback", json=corrected | {"label": wrong})
        assert (refused.status_code, refused.json()["reason"]) == (400, "bad-parameter")
        assert "allowed are 'A', 'B'" in refused.json()["detail"]
    version = service.http.get("/version").json()
    assert version["labels"] == list(ALPHABET)
    assert service.metric(f'neocog_predictions_total{{label="Q",model_version="{version["version"]}"}}') == 1
    assert service.metric('neocog_feedback_total{label="B"}') == 1
    outputs = service.http.get("/v2/models/digits").json()["outputs"]
    assert outputs == [{"name": "prob", "datatype": "FP32", "shape": [-1, 24]}]


def test_openapi_has_the_labels_of_the_bundle(letters, bundle_folder):
    for folder, field, values in (
        (letters, "label", list(ALPHABET)),
        (bundle_folder, "digit", [*range(10)]),
    ):
        with in_process(folder) as client:
            schemas = client.get("/openapi.json").json()["components"]["schemas"]
        answer = schemas["PredictionAnswer"]
        assert answer["properties"][field]["enum"] == values
        assert field in answer["required"]
        assert answer["properties"]["probabilities"]["maxItems"] == len(values)
        assert schemas["Feedback"]["properties"]["label"]["enum"] == values


def test_a_new_bundle_with_other_labels_is_refused(serve, letters, tmp_path):
    folder = tmp_path / "bundle"
    make_bundle(folder, labels=ALPHABET, images=LETTERS)
    service = serve(bundle=folder, reload_seconds=0.1)
    put_another(folder)  # of digits
    until(lambda: any("it has other labels; start the service anew" in line for line in service.log))
    assert service.http.post("/predict", content=png(letter("Q"))).json()["label"] == "Q"

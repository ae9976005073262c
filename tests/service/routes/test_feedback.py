"""POST /feedback: a label is checked before it is kept."""

ID = "019a1b2c3d4e7f60a1b2c3d4e5f60718"


def test_feedback_is_checked(client, serve, tmp_path):
    service = serve(journal=f"sqlite:///{tmp_path}/journal.db")
    good = {"prediction_id": ID, "label": 1}
    wrong = [{"label": 10}, {"label": "1"}, {"label": None}, {"prediction_id": "x"}, {"more": 2}]
    for body in [{}, {"prediction_id": ID}, [], "x", *(good | changes for changes in wrong)]:
        response = service.http.post("/feedback", json=body)
        assert (response.status_code, response.json()["reason"]) == (400, "bad-parameter"), body
    response = client.post("/feedback", json={"prediction_id": ID, "label": 1})
    assert (response.status_code, response.json()["reason"]) == (503, "no-journal")


def test_a_body_that_is_larger_than_any_label_is_refused_unparsed(client):
    for body, reason in ((b"[".ljust(4096), "malformed-json"), (b"[".ljust(4097), "body-too-large")):
        assert client.post("/feedback", content=body).json()["reason"] == reason
    said = client.post("/feedback", content=bytes(5000)).json()
    assert (said["status"], said["detail"]) == (413, "the body has 5,000 bytes or more; at most 4,096 are read")

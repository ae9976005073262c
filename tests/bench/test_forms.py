import pytest

from bench import forms
from service.edge.forms import files as read_files


def test_it_prints_both_readers_for_three_forms(measure):
    ran = measure("forms", "--rounds", 1)
    assert ran.code == 0
    rows = ran.out.splitlines()
    assert [row[:20].strip() for row in rows[1:4]] == ["one 28x28 PNG", "64 of them", "one file of 300 kB"]
    assert rows[4].startswith("FormParser takes ")


@pytest.mark.parametrize("files", [[b"one"], [b"one", b"\r\n--two\r\n"], [b""]])
def test_both_readers_find_the_files(files):
    body = forms.form(files)
    assert forms.form_parser(body) == files
    assert read_files(forms.CONTENT_TYPE, body) == files


def test_it_fails_if_the_readers_disagree(measure, monkeypatch):
    monkeypatch.setattr(forms, "form_parser", lambda body: [])
    assert measure("forms").code == "bench: the two readers disagree about one 28x28 PNG"

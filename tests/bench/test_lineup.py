from model.networks.lineup import LINE_UP
from pipelines.ingest import SHA256


def test_an_unknown_classifier_is_refused(measure, tmp_path):
    for name in SHA256:
        (tmp_path / name).touch()
    ran = measure("lineup", tmp_path, "abacus")
    assert ran.code == 2
    assert ran.err == (f"python -m bench.lineup: there is no classifier 'abacus'; there are {', '.join(LINE_UP)}\n")

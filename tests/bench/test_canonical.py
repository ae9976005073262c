from bench import canonical


def test_it_prints_a_row_for_each_kind_of_picture(measure, monkeypatch):
    small = canonical.small_pictures(count=2)
    monkeypatch.setattr(canonical, "small_pictures", lambda: small)
    monkeypatch.setattr(canonical, "large_pictures", lambda: {"large": canonical.digits(400, 300, size=80, count=1)})
    ran = measure("canonical", "--rounds", 1)
    assert ran.code == 0
    rows = ran.out.splitlines()
    assert [row[:42].strip() for row in rows[1:-1]] == [*small, "large"]
    assert rows[-1].startswith("A clean 28x28 digit takes ")

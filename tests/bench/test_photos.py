def test_it_prints_a_row_for_each_kind_of_photo(measure, bundle, shared_mnist):
    from bench.photos import PHOTOS

    ran = measure("photos", bundle, "--mnist", shared_mnist, "--images", 1)
    assert ran.code == 0
    rows = ran.out.splitlines()
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows[2:-2]] == list(PHOTOS)
    assert rows[-1].startswith("Mean accuracy ")

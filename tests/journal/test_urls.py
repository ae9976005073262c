"""Where the journal may be."""

import pytest

from journal.errors import WrongUrl
from journal.urls import checked, from_environment


@pytest.mark.parametrize(
    "wrong",
    ["journal.db", "mysql://x:secret@y/z", "sqlite+none:///x", "sqlite:///:memory:", "sqlite:///file:x?uri=true"],
)
def test_a_url_that_means_no_database_is_one_line(wrong):
    with pytest.raises(WrongUrl, match=r"NEOCOG_JOURNAL is '.*', allowed is: sqlite:///FILE") as said:
        checked(wrong)
    assert "secret" not in str(said.value)


def test_a_command_needs_a_journal_that_is_on(monkeypatch):
    monkeypatch.setenv("NEOCOG_JOURNAL", "off")
    with pytest.raises(WrongUrl, match="NEOCOG_JOURNAL is 'off': there is no journal"):
        from_environment()

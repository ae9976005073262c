"""What can go wrong with the journal."""


class JournalError(Exception):
    """The base of this package's errors."""


class WrongUrl(JournalError):
    """The URL names no database that a journal can be kept in. The message shows no password."""


class JournalUnavailable(JournalError):
    """The database cannot be written to now."""


class JournalFull(JournalUnavailable):
    """The database answers, but has no room: the bound of its file is reached, or the disk is full."""


class JournalSilent(JournalUnavailable):
    """The database did not answer in time, or another process has locked it for as long."""


class RowRefused(JournalUnavailable):
    """The database answers, and will never take one of the rows that were sent."""

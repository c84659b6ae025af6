"""Every exit code, and the families that all errors of this package belong to: who caused one is told by its class."""

COMPLETE, FAILED, UNUSABLE, TOO_MANY_BAD, REFUSED, CHAMPION_STAYS, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130
"""0 complete, bad images among the rows or not · 1 anything else · 2 unusable arguments or settings · 3 complete, but more images
than allowed are not `ok` · 4 the folder belongs to another run · 5 complete, and the champion stays · 130 interrupted."""


class BtcRayError(Exception):
    """An error of this package: its message is for a person, and needs no traceback."""

    exit_code = FAILED


class UserError(BtcRayError, ValueError):
    """What a user can cause and mend: the message names the flag or the file, what is wrong with it, and what to do."""

    exit_code = UNUSABLE


class RefusedError(UserError):
    """A folder that holds something else already: nothing of a user's is replaced."""

    exit_code = REFUSED


class DeviceError(BtcRayError):
    """The GPU failed, not an image: this process may compute nothing on it any more, a new one may."""

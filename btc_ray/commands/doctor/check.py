"""One thing that was looked at, and how it stands."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "missing", "broken"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """`missing`: not installed or not there, and only who needs it has to care; `broken`: it is there and does not work.

    `needed`: scoring pictures, the main job, cannot do without it. `advice`: what to do where it is not ok.
    """

    subject: str
    name: str
    state: State
    detail: str = ""
    advice: str = ""
    needed: bool = False

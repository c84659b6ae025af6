"""What the workers have done so far, for the driver's progress. Nothing is imported here: the process of this actor starts at once."""


class ProgressActor:
    """An actor."""

    def __init__(self) -> None:
        self._images = self._bad = 0

    def add(self, images: int, bad: int) -> None:
        self._images += images
        self._bad += bad

    def read(self) -> tuple[int, int]:
        return self._images, self._bad

"""What is done to films to teach the checks how a film may lie."""

import numpy as np
from numpy.typing import NDArray

from handlers.quality import turn
from handlers.report import Turned

Film = NDArray[np.uint8]


def laid(film: Film, way: tuple[Turned, bool, bool]) -> Film:
    """[S, S] mirrored, then turned, then inverted."""
    turned, mirrored, inverted = way
    film = np.asarray(turn(film[:, ::-1] if mirrored else film, turned), np.uint8)
    return 255 - film if inverted else film

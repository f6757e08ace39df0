"""How many processors there are for what runs side by side."""

import os


def processors() -> int:
    """``OMP_NUM_THREADS`` where it is a number, as torch goes by that, too: a container has a share of its machine's
    processors and sees all of them. Else the machine's. At least 1.
    """
    told = os.environ.get("OMP_NUM_THREADS", "")
    return int(told) if told.isdecimal() and int(told) > 0 else os.cpu_count() or 1

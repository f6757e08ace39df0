"""How many processors there are for what runs side by side, and which threads go before others on them."""

import os
import sys
import threading

COMPUTING = 5
"""Nice value of the threads that compute."""


def processors() -> int:
    """``OMP_NUM_THREADS`` where it is a number, as torch goes by that, too: a container has a share of its machine's
    processors and sees all of them. Else the machine's. At least 1.
    """
    told = os.environ.get("OMP_NUM_THREADS", "")
    return int(told) if told.isdecimal() and int(told) > 0 else os.cpu_count() or 1


def give_way() -> None:
    """Lets the threads that pass films on go before this one, which computes for a second at a stretch.

    On Linux a thread has a nice value of its own (sched(7)), elsewhere nothing changes.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, max(COMPUTING, os.getpriority(os.PRIO_PROCESS, thread)))

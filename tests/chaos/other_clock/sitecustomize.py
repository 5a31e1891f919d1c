"""Python imports this by itself where PYTHONPATH names its folder: the process then goes by another clock.

The file named by CHAOS_CLOCK tells how many seconds it is ahead of the machine's, and is read again and again. What
measures lengths of time (`time.monotonic`) stays as it is, as it does when a machine's clock is set.
"""

import os
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import time_machine

_travelled = time_machine.travel(datetime.now(UTC), tick=True)
_clock = _travelled.start()
_file = Path(os.environ["CHAOS_CLOCK"])
_shifted = 0.0


def _follow() -> None:
    global _shifted
    while True:
        ahead = float(_file.read_text() or 0)
        if ahead != _shifted:
            _clock.shift(timedelta(seconds=ahead - _shifted))
            _shifted = ahead
        time.sleep(0.1)


def _start() -> None:
    threading.Thread(target=_follow, daemon=True).start()


os.register_at_fork(after_in_child=_start)
_start()

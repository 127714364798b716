"""What test_stops.py runs: train.py, whose saves take SECONDS longer than they do.

PYTHONPATH=.:tests torchrun --nproc-per-node N tests/slow_save.py SECONDS FLAGS...
"""

import sys
import time

import checkpoint
import config
import parallel
import train

if __name__ == "__main__":
    seconds, save = float(sys.argv.pop(1)), checkpoint.Run.save

    def slow(run, *given):
        save(run, *given)
        if parallel.rank() == 0:  # which writes; the others only take part
            time.sleep(seconds)
            (run.folder / "written").touch()

    checkpoint.Run.save = slow
    print(f"{parallel.grace():.0f} seconds to leave", flush=True)
    config.run(train.main)

"""What the four programs share at their edges: flags, one-sentence errors, and stopping cleanly."""

import argparse
import contextlib
import signal
import sys
import time


class Parser(argparse.ArgumentParser):
    """argparse with errors of one sentence (exit code 2)."""

    def __init__(self, description: str):
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message: str):
        """Print the sentence without the usage, which is long, and leave with code 2."""
        fail(f"{message} (see --help)")


def fail(sentence: str):
    """End the program because of what the user gave it: one sentence on stderr, exit code 2, no traceback."""
    print(f"error: {sentence}", file=sys.stderr)
    raise SystemExit(2)


@contextlib.contextmanager
def bad_input(*errors: type[Exception]):
    """Within this block `errors` (ValueError and OSError, if none is named) are about what the user gave, or a full
    disk: they end the program by `fail`."""
    errors = errors or (ValueError, OSError)
    try:
        yield
    except errors as error:
        fail(str(error))


_asked: float | None = None  # when Ctrl-C or SIGTERM first came
_held = 0  # blocks of `uninterrupted` that are open


def _on_signal(number, frame):
    global _asked
    first, _asked = _asked is None, _asked or time.monotonic()
    if not _held or time.monotonic() - _asked > 2:  # torchrun passes one Ctrl-C on as several signals
        raise KeyboardInterrupt
    if first:
        print("stopping when this is done; Ctrl-C once more stops at once, and saves nothing", file=sys.stderr)


def stopping() -> bool:
    """Whether Ctrl-C or SIGTERM came."""
    return _asked is not None


@contextlib.contextmanager
def uninterrupted():
    """Hold Ctrl-C and SIGTERM back until the end of this block: for what must happen wholly or not at all."""
    global _held
    _held += 1
    try:
        yield
    finally:
        _held -= 1
    if stopping() and not _held:
        raise KeyboardInterrupt


@contextlib.contextmanager
def interruptible():
    """Within `uninterrupted`: in this block Ctrl-C and SIGTERM raise KeyboardInterrupt at once after all."""
    global _held
    held, _held = _held, 0
    try:
        if stopping():
            raise KeyboardInterrupt
        yield
    finally:
        _held = held


def run(main):
    """Run a program: a KeyboardInterrupt (Ctrl-C, SIGTERM) ends it without a traceback, with code 130."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _on_signal)
    try:
        main()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        raise SystemExit(130) from None

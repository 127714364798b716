"""What the four programs share at their edges: flags, one-sentence errors, and stopping cleanly."""

import argparse
import contextlib
import signal
import sys


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


@contextlib.contextmanager
def uninterrupted():
    """Hold Ctrl-C and SIGTERM back until the end of this block: for what must happen wholly or not at all."""
    held = []
    before = {s: signal.signal(s, lambda *call: held.append(call)) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
    if held:
        raise KeyboardInterrupt


def run(main):
    """Run a program: a KeyboardInterrupt (Ctrl-C, SIGTERM) ends it without a traceback, with code 130."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        raise SystemExit(130) from None

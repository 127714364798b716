"""Several processes, as torchrun starts them, but forked from one that has imported everything: that takes no time."""

import contextlib
import io
import multiprocessing
import os
import socket
import sys

import torch

import config
import parallel

CONTEXT = multiprocessing.get_context("forkserver")  # plain forks of a process that ran a backward cannot run another
CONTEXT.set_forkserver_preload(["coldstart"])


def free_port() -> int:
    """A port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(count: int, work, *given) -> list[int]:
    """Have `count` processes, which are a group, do `work(*given)`; their exit codes."""
    port = free_port()
    ranks = [CONTEXT.Process(target=_one, args=(rank, count, port, work, given)) for rank in range(count)]
    for rank in ranks:
        rank.start()
    try:
        for rank in ranks:
            rank.join(timeout=600)
        return [rank.exitcode for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()


def _one(rank, count, port, work, given):
    about = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
    os.environ |= {"MASTER_ADDR": "127.0.0.1"} | {name: str(value) for name, value in about.items()}
    torch.set_num_threads(1)
    parallel.start()
    config._abrupt = False  # `program` is not the end
    stop, parallel.start, parallel.stop = parallel.stop, lambda: None, lambda: None  # all programs in one group
    work(*given)
    stop()


def program(main, *argv) -> tuple[int, str]:
    """Run a program in this process: its exit code, and what it said."""
    sys.argv, config._asked, said = ["program", *map(str, argv)], None, io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            config.run(main)
        except SystemExit as stopped:
            return stopped.code, said.getvalue()
    return 0, said.getvalue()

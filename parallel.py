"""Several processes as one: sharded training, whole weights for rollouts, and a step that all of them see.

    shard      every decoder layer and the rest are FSDP2 units: float32 master weights and optimiser state, split over
               the processes; on GPUs gathered in bfloat16 for compute, gradients reduced in float32
    WholeWeights
               a copy of them in compute precision for the sampler. Decoding needs no communication, so processes may
               decode different numbers of steps
    deal       which prompts are this process's to sample
    gather     what each process sampled, to all of them: each then computes the step's advantages and denominators
               from everything, exactly as one process does, and trains on its share of the micro-batches
    side_by_side
               which micro-batches the processes compute at the same time
    whole      one tensor, from the shards that processes hold
    by_turns   pieces of work that each process does by itself, a piece each at a time
    first      what one process does by itself, as to write a file, for all of them

Gradients are summed over processes, not averaged: the losses carry the step's global denominators already. Under
`torchrun --nnodes N` weights are sharded within a node and replicated across (hybrid sharding).
"""

import contextlib
import copy
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

import config


def start():
    """Join the process group that torchrun's environment names. A single process on a GPU makes a group of its own, so
    that there is one path on GPUs; on a CPU it needs none."""
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        torch.backends.cuda.enable_cudnn_sdp(False)  # it plans anew for every shape, and nearly every one is new
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # A process may wait long for the one that samples longest; when one dies, torchrun ends the others.
        dist.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo", timeout=timedelta(days=1))
    elif gpu:
        dist.init_process_group("cpu:gloo,cuda:nccl", store=dist.HashStore(), rank=0, world_size=1)


def stop():
    """Leave the process group, all processes together."""
    if grouped():
        gather("leaving")  # nobody takes connections down that another still uses
        dist.destroy_process_group()


def device() -> str:
    """Where this process computes."""
    return f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"


def precision() -> torch.dtype:
    """What it computes in, where nothing is trained: bfloat16 on a GPU, float32 on a CPU."""
    return torch.bfloat16 if torch.cuda.is_available() else torch.float32


def rank() -> int:
    """This process's number; 0 without a group."""
    return dist.get_rank() if grouped() else 0


def size() -> int:
    """The number of processes; 1 without a group."""
    return dist.get_world_size() if grouped() else 1


def grouped() -> bool:
    """Whether there is a process group: several processes, or a GPU. Then weights are shards."""
    return dist.is_initialized() and not _alone


_alone = False  # whether this process does something by itself


@contextlib.contextmanager
def alone():
    """In this block a process is the only one: it does something by itself, while the others wait, or do likewise."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def say(text: str):
    """Print, once for all processes."""
    if heard():
        print(text, flush=True)


def heard() -> bool:
    """Whether this process is the one that tells how things go; so it is also while each is `alone`."""
    return not dist.is_initialized() or dist.get_rank() == 0


def shard(network: torch.nn.Module, layers: list[torch.nn.Module]):
    """Shard `network` and its decoder `layers` in place, over the process group; without one nothing happens.

    `network` must own the whole forward: its hooks gather what is not in a layer (embedding, norm, output layer)."""
    if not grouped():
        return
    kind = device().split(":")[0]
    local = int(os.environ.get("LOCAL_WORLD_SIZE", size()))
    if local < size():
        mesh = init_device_mesh(kind, (size() // local, local), mesh_dim_names=("replicate", "shard"))
    else:
        mesh = init_device_mesh(kind, (size(),), mesh_dim_names=("shard",))
    mixed = MixedPrecisionPolicy()
    if kind == "cuda":
        mixed = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for unit in [*layers, network]:
        fully_shard(unit, mesh=mesh, mp_policy=mixed)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """The whole of a tensor that may be sharded. All processes must call it alike."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(tensor: torch.Tensor, shards: torch.Tensor) -> torch.Tensor:
    """`tensor`, whole and the same on every process, placed and sharded as `shards` is."""
    tensor = tensor.to(shards.device)
    if not isinstance(shards, DTensor):
        return tensor
    return distribute_tensor(tensor, shards.device_mesh, shards.placements, src_data_rank=None)


class WholeWeights:
    """Whole weights to sample with, in compute precision: `model`. Where nothing is sharded and the precision is the
    policy's own (on a CPU) that is the policy itself, and nothing is copied."""

    def __init__(self, policy_model, device: str):
        """To be made before `shard`, from the whole policy."""
        self.policy, self.model = policy_model, policy_model
        if grouped():
            self.model = copy.deepcopy(policy_model).requires_grad_(False).to(device)
            for p in self.model.parameters():  # not buffers: rotary frequencies in bfloat16 make another model
                p.data = p.data.to(precision())

    @torch.no_grad()
    def refresh(self):
        """Take over the policy's present weights. All processes must call it alike."""
        if self.model is not self.policy:
            for mine, theirs in zip(self.model.parameters(), self.policy.parameters()):
                mine.copy_(whole(theirs))


class Stopped(KeyboardInterrupt):
    """Ctrl-C or SIGTERM reached one of the processes, and all of them stop, at the same place."""


def gather(part):
    """Every process's `part`, in the order of ranks. If one of them gives None, because it was told to stop, all of
    them raise Stopped here."""
    parts = [part]
    if size() > 1:
        parts = [None] * size()
        dist.all_gather_object(parts, part)
    if any(p is None for p in parts):
        raise Stopped
    return parts


def together(work: Callable[[], object]) -> list:
    """What `work` gives on every process, in the order of ranks. Ctrl-C and SIGTERM end it at once, whatever they would
    wait for outside; then all processes raise Stopped. A ValueError, which is about what the user gave, and an OSError,
    such as a full disk, are raised on all of them, too: so all are at the same place, and can save."""
    try:
        with config.interruptible():
            part = work()
    except KeyboardInterrupt:
        part = None
    except (ValueError, OSError) as error:
        part = error
    parts = gather(None if config.stopping() else part)
    for error in parts:
        if isinstance(error, (ValueError, OSError)):
            raise error
    return parts


def first(work: Callable[[], object]):
    """On every process, what `work` gives on the first one, which does it `alone`. What ends it ends all, as in
    `together`."""

    def by_itself() -> list:
        with alone():
            return [work()]

    return together(by_itself if rank() == 0 else list)[0][0]


def deal(things: list) -> list[int]:
    """Which of some hashable things are this process's: as many of the different ones as any other's. Equal things stay
    together, so that what a process makes of its own does not depend on how many processes there are."""
    number = {thing: i for i, thing in enumerate(dict.fromkeys(things))}
    return [i for i, thing in enumerate(things) if number[thing] % size() == rank()]


def by_turns(work: Callable[[object], object], things: Sequence) -> Iterator:
    """What `work` gives of each of some things, in their order, on every process: each does one at a time, `alone`, and
    so it gives bit for bit the same for any number of processes. What ends one ends all, as in `together`."""
    for start in range(0, len(things), size()):
        mine = things[start + rank() : start + rank() + 1]

        def share(mine=mine) -> list:
            with alone():
                return [work(thing) for thing in mine]

        yield from sum(together(share), [])


def side_by_side(batches: list, idle) -> Iterator[tuple]:
    """This process's share of some micro-batches, each with all that the processes compute at the same time. All get
    equally many, at least one, because their forwards gather shards: where there is none left it is the `idle` one."""
    for start in range(0, len(batches) or 1, size()):
        beside = batches[start : start + size()]
        yield beside[rank()] if rank() < len(beside) else idle, beside


def total(values: dict[str, float], largest: tuple[str, ...] = ()) -> dict[str, float]:
    """Sums over processes of each value; of those named in `largest` the maximum."""
    parts = gather(values)
    return {k: (max if k in largest else sum)(p.get(k, 0.0) for p in parts) for p in parts for k in p}

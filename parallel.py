"""Several processes as one: sharded training, whole weights for rollouts, and a step that all of them see.

    shard      every decoder layer and the rest are FSDP2 units: float32 master weights and optimiser state, split over
               the processes; on GPUs gathered in bfloat16 for compute, gradients reduced in float32
    WholeWeights
               a copy of them in compute precision for the sampler, one a GPU; processes on CPUs share one a node.
               Decoding needs no communication, so processes may decode different numbers of steps
    deal       which prompts are this process's to sample
    gather     what each process sampled, to all of them: each then computes the step's advantages and denominators
               from everything, exactly as one process does, and trains on its share of the micro-batches
    side_by_side
               which micro-batches the processes compute at the same time
    whole      one tensor, from the shards that processes hold
    write, read
               shards to and from one safetensors file, in which each process has its rows in their place: no process
               gathers a tensor, and another number of processes reads the same file. torch.distributed.checkpoint can
               do that, too, but its index is a pickle, which runs whatever it says, and its file is no model's
    by_turns   pieces of work that each process does by itself, a piece each at a time
    first      what one process does by itself, as to write a file, for all of them

No process needs more of the machine's memory than its shards and, on CPUs, its part of the node's whole copy.
Gradients are summed over processes, not averaged: the losses carry the step's global denominators already. Under
`torchrun --nnodes N` weights are sharded within a node and replicated across (hybrid sharding).
"""

import contextlib
import copy
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors import safe_open
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

import config


def start():
    """Join the process group that torchrun's environment names. A single process on a GPU makes a group of its own, so
    that there is one path on GPUs; on a CPU it needs none."""
    gpu = torch.cuda.is_available()
    if gpu:
        here, cards = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
        if here > cards:
            config.fail(f"{here} processes need a GPU each, and this node has {cards}: use --nproc-per-node {cards}")
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        torch.backends.cuda.enable_cudnn_sdp(False)  # it plans anew for every shape, and nearly every one is new
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # A process may wait long for the one that samples longest; when one dies, torchrun ends the others.
        dist.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo", timeout=timedelta(days=1))
    elif gpu:
        dist.init_process_group("cpu:gloo,cuda:nccl", store=dist.HashStore(), rank=0, world_size=1)
    if grouped():
        config.end_abruptly()


def stop():
    """Leave the process group, all processes together."""
    if grouped():
        gather("leaving")  # nobody takes connections down that another still uses
        dist.destroy_process_group()


def grace() -> float:
    """The seconds from torchrun's SIGTERM to its SIGKILL; infinite where torchrun did not start this process. It tells
    them to nobody, so they are looked for where it finds them: on its command line, and in the environment."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return math.inf
    names = ("PET_SHUTDOWN_TIMEOUT", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT")
    found = next((os.environ[name] for name in names if name in os.environ), "30")
    with contextlib.suppress(OSError):  # no /proc, and then no flag is seen
        words = Path(f"/proc/{os.getppid()}/cmdline").read_text(errors="replace").replace("=", "\0").split("\0")
        for word, after in pairwise(words):
            found = after if word.replace("_", "-") == "--shutdown-timeout" else found
    return float(found)


def device() -> str:
    """Where this process computes."""
    return f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"


def memory() -> tuple[bool, float]:
    """Whether this process computes on a GPU, and the bytes that are free: there, or else for all of the machine."""
    if torch.cuda.is_available():
        return True, torch.cuda.mem_get_info()[0]
    with contextlib.suppress(OSError):
        known = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return False, 1024 * int(known["MemAvailable"].split()[0])
    return False, math.inf


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


def local() -> tuple[int, int]:
    """This process's number on its node, and how many there are on it."""
    count = min(size(), int(os.environ.get("LOCAL_WORLD_SIZE", size())))
    return rank() % count, count


# --------------------------------------------------------------------------------------------------------------- shards


def shard(network: torch.nn.Module, layers: list[torch.nn.Module], resharded: bool | None = None):
    """Shard `network` and its decoder `layers` in place, over the process group; without one nothing happens. Where it
    has no weights (on the meta device) its shards get memory, and no values.

    `network` must own the whole forward: its hooks gather what is not in a layer (embedding, norm, output layer), and
    keep it until the backward, unless it is `resharded` at once."""
    if not grouped():
        return
    kind, (_, here) = device().split(":")[0], local()
    if here < size():
        mesh = init_device_mesh(kind, (size() // here, here), mesh_dim_names=("replicate", "shard"))
    else:
        mesh = init_device_mesh(kind, (size(),), mesh_dim_names=("shard",))
    mixed = MixedPrecisionPolicy()
    if kind == "cuda":
        mixed = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for unit in layers:
        fully_shard(unit, mesh=mesh, mp_policy=mixed)
    fully_shard(network, mesh=mesh, mp_policy=mixed, reshard_after_forward=resharded)
    if any(p.is_meta for p in network.parameters()):
        buffers = [buffer.clone() for buffer in network.buffers()]  # rotary frequencies are in no file
        network.to_empty(device=device())
        for buffer, value in zip(network.buffers(), buffers):
            buffer.copy_(value)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """The whole of a tensor that may be sharded. All processes must call it alike."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def rows(tensor: torch.Tensor) -> tuple[torch.Tensor, int]:
    """What this process has of a tensor that may be sharded: some of its rows, and the number of the first."""
    if not isinstance(tensor, DTensor):
        return tensor, 0
    mesh, axis = tensor.device_mesh, len(tensor.placements) - 1  # shards are within a node: the last axis
    first = math.ceil(len(tensor) / mesh.size(axis)) * mesh.get_local_rank(axis)
    return tensor.to_local(), min(first, len(tensor))


def twin(model, make: Callable[[torch.Tensor], torch.Tensor]):
    """The same model with weights that need no gradient: of each parameter what `make` makes, tied ones once. Its
    buffers are copied; its weights never are. To be made before `shard`."""
    made = {id(p): torch.nn.Parameter(make(p), requires_grad=False) for p in model.parameters()}
    return copy.deepcopy(model, made)


def room(parameter: torch.Tensor) -> torch.Tensor:
    """For `twin`: memory as large as a parameter; none yet (on the meta device) where it will be sharded."""
    return torch.empty_like(parameter, device="meta" if grouped() else None)


@torch.no_grad()
def take_over(mine, theirs):
    """Give a model the weights and buffers of its twin, sharded alike."""
    for one, other in zip([*mine.parameters(), *mine.buffers()], [*theirs.parameters(), *theirs.buffers()]):
        rows(one)[0].copy_(rows(other)[0])


@torch.no_grad()
def hand_out(tensor: torch.Tensor, given: torch.Tensor | None):
    """Fill a tensor that may be sharded from one that the first process has whole. All must call it alike."""
    part, first = rows(tensor)
    if size() > 1:
        given = given.to(tensor.dtype) if rank() == 0 else torch.empty(tensor.shape, dtype=tensor.dtype)
        dist.broadcast(given, 0)
    part.copy_(given[first : first + len(part)] if part.ndim else given)


class WholeWeights:
    """Whole weights to sample with, in compute precision: `model`. Where nothing is sharded and the precision is the
    policy's own (one process on a CPU) that is the policy itself, and nothing is copied. `refresh` gives them values.
    """

    def __init__(self, policy_model, device: str):
        """To be made before `shard`; the policy may still be without weights."""
        self.policy, self.model, self.shared = policy_model, policy_model, device == "cpu"
        if grouped():
            place = _of_the_node(list(policy_model.parameters())) if self.shared else torch.empty
            made = twin(policy_model, lambda p: place(p.shape, dtype=precision(), device=device))
            self.model = made.to(device)  # not buffers: rotary frequencies stay float32

    @torch.no_grad()
    def refresh(self):
        """Take over the policy's present weights. All processes must call it alike, and none may be sampling."""
        if self.model is self.policy:
            return
        for mine, theirs in zip(self.model.parameters(), self.policy.parameters()):
            if self.shared:  # each process writes its rows
                part, first = rows(theirs)
                mine[first : first + len(part)] = part
            else:
                mine.copy_(whole(theirs))
        for mine, theirs in zip(self.model.buffers(), self.policy.buffers()):
            mine.copy_(theirs)
        gather("the weights are there")


def _of_the_node(parameters: list[torch.Tensor]):
    """Something like torch.empty for tensors as large as `parameters`, in memory that the processes of this node share.
    It belongs to no file that could be left behind."""
    least = 64  # bytes, to which torch's own allocations are aligned
    room = sum(p.numel() * 4 + least for p in parameters)
    mine, path = local()[0], ""
    if mine == 0 and hasattr(os, "memfd_create"):
        handle = os.memfd_create("weights")
        path = f"/proc/{os.getpid()}/fd/{handle}"
    elif mine == 0:
        handle, path = tempfile.mkstemp()
    path = gather(path)[rank() - mine]
    memory, taken = torch.from_file(path, shared=True, size=room, dtype=torch.uint8), 0
    gather("mapped")
    if mine == 0:
        if not path.startswith("/proc"):
            os.unlink(path)
        os.close(handle)

    def place(shape, dtype, device):
        nonlocal taken
        end = taken + math.prod(shape) * dtype.itemsize
        tensor = memory[taken:end].view(dtype).view(shape)
        taken = end + -end % least
        return tensor

    return place


# ---------------------------------------------------------------------------------------------------- shards and files

NAMES = {
    torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.float64: "F64", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


def write(file: Path, tensors: dict[str, torch.Tensor]):
    """Write tensors that may be sharded to a safetensors file, byte for byte as safetensors writes whole ones. All
    processes must call it alike; on one node each writes its rows. Raises OSError on all when the disk is full."""
    header, places, end = {"__metadata__": {"format": "pt"}}, {}, 0
    for name in sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name)):
        tensor, start = tensors[name], end
        end += tensor.numel() * tensor.dtype.itemsize
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": [*tensor.shape], "data_offsets": [start, end]}
        places[name] = start
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)

    def begin():
        with open(file, "wb") as handle:
            handle.write(len(text).to_bytes(8, "little") + text)
            handle.truncate(8 + len(text) + end)

    def rest():
        with open(file, "r+b") as handle:
            for name, start in places.items():
                part, first = rows(tensors[name])
                if part.numel() and (rank() == 0 or isinstance(tensors[name], DTensor)):
                    handle.seek(8 + len(text) + start + first * math.prod(part.shape[1:]) * part.itemsize)
                    handle.write(part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
            handle.flush()
            os.fsync(handle.fileno())

    once(begin)
    everywhere(rest if rank() < local()[1] else lambda: None)  # the first node has all rows; others may not see it


def contents(files: Iterable[Path]) -> dict[str, tuple[Path, tuple[int, ...]]]:
    """Which tensors safetensors files hold: of each name the file and the shape."""
    found = {}
    for file in files:
        with safe_open(file, "pt") as opened:
            names = opened.keys()
            found |= {name: (file, tuple(opened.get_slice(name).get_shape())) for name in names}
    return found


@torch.no_grad()
def read(files: dict[str, tuple[Path, tuple[int, ...]]], tensors: dict[str, torch.Tensor]):
    """Read tensors that may be sharded from where `contents` found them; of each, a process reads its rows."""
    for name, tensor in tensors.items():
        part, first = rows(tensor)
        if part.numel():
            with safe_open(files[name][0], "pt") as opened:  # closed each time: what was read leaves the memory
                found = opened.get_slice(name)[first : first + len(part)] if part.ndim else opened.get_tensor(name)
                part.copy_(found)


# ------------------------------------------------------------------------------------------------------------ processes


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


def everywhere(work: Callable[[], object]):
    """Do `work` on every process. What one of them cannot do, an OSError (a full disk) or ValueError (what the user
    gave), is raised on all: so none waits for it."""
    error = None
    try:
        work()
    except (OSError, ValueError) as caught:
        error = caught
    for failed in sum(gather([error]), []):
        if failed:
            raise failed


def once(work: Callable[[], object]):
    """As `everywhere`, on the first process only; when this returns it is done."""
    everywhere(work if rank() == 0 else lambda: None)


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

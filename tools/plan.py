"""What training a model takes of memory, and the flags that make it fit, from the model's config alone: no weights.

    python -m tools.plan --model ID_OR_FOLDER_OR_CONFIG_JSON --gpus 8 --memory 80
    python -m tools.plan --model ... --gpus 1 --memory 24 --max-new-tokens 4096 --lora 32      # train.py's own flags

The figures are those that train.py prints at its start; tools/memory.py says how each is computed.
"""

from dataclasses import dataclass
from typing import NamedTuple

import config
import policy
import toy
from config import MISSING, Objective, Optimiser, Sampling, flag
from tools.memory import GIB, Plan


@dataclass(frozen=True)
class Machine:
    """the model, and where it would be trained"""

    model: str = flag(MISSING, "a model folder, a hub id, or a config.json")
    gpus: int = flag(8, "GPUs of a node, a process each")
    memory: float = flag(80.0, "GiB of a GPU")
    prompt_tokens: int = flag(1024, "of the longest prompt")


class Planning(NamedTuple):
    """The settings of this program: some of train.py's, which mean the same."""

    machine: Machine
    objective: Objective
    sampling: Sampling
    optimiser: Optimiser


def report(plan: Plan) -> str:
    """Every phase by what takes it, GiB a GPU, and what makes it fit where it does not."""
    phases = {"sampling": plan.sampling, "update": plan.update, "optimiser": plan.step}
    names = list(dict.fromkeys(name for parts in phases.values() for name in parts))
    rows = [f"{'GiB a GPU':<18}" + "".join(f"{phase:>11}" for phase in phases)]
    for name in [name for name in names if any(parts.get(name) for parts in phases.values())]:
        rows.append(f"{name:<18}" + "".join(f"{parts.get(name, 0) / GIB:>11.1f}" for parts in phases.values()))
    rows.append(f"{'sum':<18}" + "".join(f"{sum(parts.values()) / GIB:>11.1f}" for parts in phases.values()))
    rows.append(f"{'of':<18}" + f"{plan.usable / GIB:>11.1f}" * len(phases))
    rows.append("the cache holds " + ", or ".join(plan.row(name) for name in plan.rows))
    rows.append(f"an update goes by {plan.tokens} tokens; activations " + activations(plan))
    rows.append(f"a save takes {plan.disk / GIB:.1f} GiB of the disk, and as much again until the last one is gone")
    rows.append(f"the machine holds {plan.host / GIB:.1f} GiB of weights at once, however many processes there are")
    return "\n".join([*rows, verdict(plan)])


def activations(plan: Plan) -> str:
    """Those of an update with and without gradient checkpointing."""
    one, other = (plan.changed(gradient_checkpointing=on).update["activations"] / GIB for on in (True, False))
    return f"{one:.1f} GiB with gradient checkpointing, {other:.1f} without"


def verdict(plan: Plan) -> str:
    """Whether it fits, and else how it would."""
    if plan.fits:
        return "it fits"
    return f"it does not fit: {plan.needed / GIB:.1f} GiB are needed{plan.advice()}"


def main():
    """The program; see the module's docstring and --help."""
    given = config.read(Planning, "Tell what training a model takes of memory, from its config.", toy.SETTINGS)
    with config.bad_input():
        settings = config.settle(Planning, given)
        machine, described = settings.machine, policy.load_config(settings.machine.model)
        plan = Plan(described, settings, machine.gpus, machine.memory * GIB, machine.prompt_tokens)
    print(report(plan))


if __name__ == "__main__":
    config.run(main)

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


def main():
    """The program; see the module's docstring and --help."""
    given = config.read(Planning, "Tell what training a model takes of memory, from its config.", toy.SETTINGS)
    with config.bad_input():
        settings = config.settle(Planning, given)
        machine, described = settings.machine, policy.load_config(settings.machine.model)
        context, most = getattr(described, "max_position_embeddings", None), settings.sampling.max_new_tokens
        if context and machine.prompt_tokens + most > context:
            held = f"the model's context holds {context} tokens"
            raise ValueError(f"{held}: lower --prompt-tokens and --max-new-tokens, {machine.prompt_tokens} and {most}")
        plan = Plan(described, settings, machine.gpus, machine.memory * GIB, machine.prompt_tokens)
    print(*plan.lines(), sep="\n")
    one, other = (plan.changed(gradient_checkpointing=on).update["activations"] / GIB for on in (True, False))
    print(f"activations take {one:.1f} GiB with gradient checkpointing, {other:.1f} without")
    print(f"the machine holds {plan.host / GIB:.1f} GiB of weights at once, however many processes there are")
    print("it fits" if plan.fits else f"it does not fit: {plan.needed / GIB:.1f} GiB are needed{plan.advice()}")


if __name__ == "__main__":
    config.run(main)

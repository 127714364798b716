"""What test_parallel.py runs in 1, 2 and 4 processes: updates and a step, whose results must not depend on how many.

PYTHONPATH=.:tests torchrun --nproc-per-node N tests/ranks.py OUT FLAGS...
"""

import sys
from pathlib import Path

import pytest
import torch
from test_train import batch_of, made_up, toy_trainer
from torch.distributed.tensor import DTensor

import checkpoint
import config
import lora
import metrics
import parallel
from rollouts import CodeError
from tapo import REF


def parity(text, problem) -> bool:
    """A reward that an untrained model earns half of the time: for --reward."""
    return sum(map(int, filter(str.isdecimal, text.split()))) % 2 == 0


def fails(text, problem):
    raise CodeError("one rank's reward failed")


def whole(tensors) -> torch.Tensor:
    """Tensors that may be sharded, as one vector."""
    return torch.cat([parallel.whole(tensor).flatten() for tensor in tensors])


def main(out: str, *flags: str):
    parallel.start()
    torch.manual_seed(0)
    sizes = ("--queries", "3", "--max-new-tokens", "20")
    trainer = toy_trainer("--kl", "0.1", *sizes, "--reward", f"{__file__}:parity", *flags)
    step, gradients = trainer.optimizer.step, []

    def keep_gradient():
        gradients.append(whole(p.grad for p in trainer.model.parameters() if p.requires_grad))
        step()

    trainer.optimizer.step = keep_gradient
    groups = made_up(9, False, 0), made_up(5, True, 1), made_up(4, False, 5)

    def batch():
        taught = trainer.objective.teaches
        return batch_of(*groups, teachers=[[7, 11, *r.prompt] for rows, _ in groups for r in rows] if taught else ())

    figures = [trainer.update(begun := batch(), 0)]
    ref = begun.of(REF)
    made = [(begun.rows[i].ids, begun.length[i] // 2) for i in ref]
    columns = ([column[i] for i in ref] for column in (begun.old, begun.weights))
    figures[0] |= metrics.of_turns(made, *columns, trainer.tokenizer) if trainer.objective.constructs else {}
    sharded = {
        isinstance(p, DTensor)
        for p in [p for n in (trainer.reference, trainer.network) if hasattr(n, "parameters") for p in n.parameters()]
    }
    assert sharded == {parallel.grouped()}  # what was gathered is gone, of what no backward frees, too
    figures.append(trainer.update(batch_of(made_up(3, False, 2)), 1))  # fewer micro-batches than processes
    still, advantages = made_up(4, False, 3)
    trainer.reference = None
    figures.append(trainer.update(batch_of((still, [0.0] * len(advantages))), 2))  # nobody has anything to push
    trainer.update(batch(), 9)

    sampler, calls = trainer.actor.sampler, []
    sample, sampler.eos_ids = sampler.sample, frozenset(range(0, 120, 5))  # an untrained model would seldom end
    sampler.sample = lambda prompts, *more, **options: calls.append(prompts) or sample(prompts, *more, **options)
    stepped, attempts, trained = trainer.step(3)
    assert all(any(attempt.wrong is row for row in trained.rows) for attempt in attempts)  # no copy of a record
    figures.append(stepped)
    asked = parallel.gather([*calls])

    folder = Path(out + ".checkpoints")
    checkpoint.save(folder, 4, trainer.model, trainer.tokenizer, trainer.optimizer)
    weights = whole(trainer.model.parameters()).clone()
    parallel.gather("saved")
    with torch.no_grad():
        for p in trainer.model.parameters():
            p.mul_(0 if p.requires_grad else 1)
    trainer.optimizer.state.clear()
    assert checkpoint.restore(checkpoint.newest(folder), trainer.model, trainer.optimizer) == 4
    trainer.weights_to_sample.refresh()
    trainer.optimizer.step = step
    assert torch.equal(whole(trainer.model.parameters()), weights)
    assert torch.equal(whole(trainer.weights_to_sample.model.parameters()), weights)
    last = batch()
    figures.append(trainer.update(last, 5))  # with the restored moments
    found = {"gradients": gradients, "weights": weights, "last": whole(trainer.model.parameters())}
    found["merged"] = whole(lora.merged(trainer.model).values())  # without adapters, the weights
    found |= {"figures": figures, "asked": asked, "ots": [last.weights[i] for i in last.of(REF)]}
    with pytest.raises(CodeError, match="one rank's"):  # all of them end alike
        trainer.actor.reward = fails if parallel.rank() == 0 else trainer.actor.reward
        trainer.step(6)
    if parallel.rank() == 0:
        torch.save(found, out)
    parallel.stop()


if __name__ == "__main__":
    config.run(lambda: main(*sys.argv[1:]))

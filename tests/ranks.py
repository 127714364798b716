"""What test_parallel.py runs in 1, 2 and 4 processes: updates and a step, whose results must not depend on how many.

PYTHONPATH=.:tests torchrun --nproc-per-node N tests/ranks.py OUT FLAGS...
"""

import sys
from pathlib import Path

import torch
from test_train import made_up_rollouts, toy_trainer

import checkpoint
import eval as evaluation
import parallel


def parity(completion, tokenizer, answer, problem):
    """A verdict that an untrained model gets right half of the time."""
    text = tokenizer.decode(completion.ids)
    return evaluation.Response(problem, text, sum(completion.ids) % 2 == 0, False, completion.finished, 1)


def main(out: str, *flags: str):
    parallel.start()
    torch.manual_seed(0)
    trainer = toy_trainer("--kl", "0.1", "--queries", "3", "--max-new-tokens", "20", *flags)
    step, gradients = trainer.optimizer.step, []

    def spy():
        gradients.append(torch.cat([parallel.whole(p.grad).flatten() for p in trainer.model.parameters()]))
        step()

    trainer.optimizer.step = spy
    figures = []
    rollouts = made_up_rollouts(9, False, 0), made_up_rollouts(5, True, 1), made_up_rollouts(4, False, 5)
    for rollout in sum(rollouts, []) if trainer.args.algo == "opsd" else ():
        rollout.teacher = [7, 11, *rollout.prompt]
    figures.append(trainer.update(*rollouts, 0))
    figures.append(trainer.update(made_up_rollouts(3, False, 2), [], [], 1))  # fewer micro-batches than processes
    still = made_up_rollouts(4, False, 3)
    for rollout in still:
        rollout.advantage = 0.0
    trainer.reference = None
    figures.append(trainer.update(still, [], [], 2))  # nobody has anything to push
    trainer.update(*rollouts, 9)
    evaluation.judge = parity
    figures.append(trainer.step(3)[0])
    folder = Path(out + ".checkpoints")
    checkpoint.save(folder, 4, trainer.model, trainer.tokenizer, trainer.optimizer)
    weights = torch.cat([parallel.whole(p).flatten() for p in trainer.model.parameters()]).clone()
    parallel.gather("saved")
    with torch.no_grad():
        for p in trainer.model.parameters():
            p.zero_()
    trainer.optimizer.state.clear()
    assert trainer.restore(checkpoint.newest(folder)) == 4
    trainer.optimizer.step = step
    restored = torch.cat([parallel.whole(p).flatten() for p in trainer.model.parameters()])
    sampler = torch.cat([p.flatten() for p in trainer.weights_to_sample.model.parameters()])
    assert torch.equal(restored, weights) and torch.equal(sampler, weights)
    figures.append(trainer.update(*rollouts, 5))  # with the restored moments
    last = torch.cat([parallel.whole(p).flatten() for p in trainer.model.parameters()])
    if parallel.rank() == 0:
        names = [r.weights for r in rollouts[1]]
        torch.save({"gradients": gradients, "weights": weights, "last": last, "figures": figures, "ots": names}, out)
    parallel.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])

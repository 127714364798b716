"""What test_shards.py runs in several processes: models read into shards, and written from them.

PYTHONPATH=.:tests torchrun --nproc-per-node N tests/shards.py OUT study MODEL...      # model folders, hub ids
... OUT begin MODEL...            # two steps, and a checkpoint in OUT/NUMBER
... OUT again CHECKPOINT...       # read one, and save it once more
"""

import sys
from pathlib import Path

import torch

import checkpoint
import config
import parallel
import policy

ROWS = [[5, 6, 7], [8]], [[9, 10], [11, 12, 13, 1]]  # prompts, responses


def filled(path: str, trained: bool = False):
    """The policy of a model folder or hub id, in shards, after two optimiser steps if it is to be `trained`; the model
    to sample with; the optimiser."""
    model, tokenizer = policy.load(path, weights=not parallel.grouped())
    assert all(p.is_meta == parallel.grouped() for p in model.parameters())
    whole, network = parallel.WholeWeights(model, "cpu"), policy.Policy(model)
    policy.sharded(network)
    if parallel.grouped():
        policy.fill(model, path)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(2 if trained else 0):
        network(*ROWS)[0].sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    for one in (network, policy.Policy(whole.model)):
        whole.refresh()
        policy.check(one, path)
    return network, whole.model, tokenizer, optimizer


def study(path: str, out: Path) -> dict:
    """What a model is, read into shards and sampled with; written again, it is in `out`."""
    network, whole, tokenizer, _ = filled(path)
    with torch.no_grad():
        found = {"logits": whole(torch.tensor([[5, 6, 7, 8]])).logits, "logprobs": network(*ROWS)[0]}
    found["weights"] = {name: parallel.whole(t) for name, t in network.model.state_dict().items()}
    found["whole"] = {name: t.clone() for name, t in whole.state_dict().items()}
    first = next(whole.parameters())
    if parallel.local()[0] == 0:
        first.fill_(parallel.rank())
    parallel.gather("written")
    found["one_a_node"] = bool((first == parallel.rank() - parallel.local()[0]).all())  # the node's first wrote for all
    found["sampled"] = {name: t.clone() for name, t in policy.load_to_sample(path)[0].state_dict().items()}
    found["bytes"] = sum(parallel.rows(p)[0].nbytes for p in network.model.parameters())
    policy.save(network.model, tokenizer, out)
    return found


def saved(path: str, out: Path, again: bool):
    """A checkpoint of a model's second step, or of the one in `path`."""
    network, _, tokenizer, optimizer = filled(path + "/model" * again, trained=not again)
    if again:
        with torch.no_grad():
            for p in network.parameters():
                p.zero_()
    step = checkpoint.restore(Path(path), network.model, optimizer) if again else 2
    checkpoint.save(out, step, network.model, tokenizer, optimizer)


def main(out: str, task: str, *paths: str):
    parallel.start()
    found = {}
    for number, path in enumerate(paths):
        place = Path(out) / str(number)
        try:
            found[path] = study(path, place) if task == "study" else saved(path, place, task == "again")
        except ValueError as error:
            found[path] = str(error)
    assert len(set(parallel.gather(str({path: text for path, text in found.items() if isinstance(text, str)})))) == 1
    good = {path: one for path, one in found.items() if isinstance(one, dict)}
    sizes = parallel.gather({path: one["bytes"] for path, one in good.items()})
    assert all(parallel.gather(all(one["one_a_node"] for one in good.values())))
    if parallel.rank() == 0:
        torch.save({"found": found, "sizes": sizes}, Path(out) / "found.pt")
    parallel.stop()


if __name__ == "__main__":
    config.run(lambda: main(*sys.argv[1:]))

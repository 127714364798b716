"""Another engine in place of the sampler: transformers' continuous batching (paged, with CUDA graphs of its own).

    torchrun --standalone train.py --engine tools/continuous.py:ContinuousBatching

It shows how little an engine needs (`sampler.Engine`), and stands beside the sampler in `bench/gpu.py`. What it breaks
of what the sampler promises:

    seeds   one generator draws for the whole batch, step by step: a completion depends on what else is in the batch,
            on how many requests run side by side and on how many processes there are. The same call on the same
            machine gives the same completions again; a resumed run, or one on another number of GPUs, does not. It is
            PyTorch's global generator, and each call seeds it.
    logits  in the precision of the weights, then float32: in bfloat16 its log-probabilities are further from the
            trainer's. Of a token of probability below 1e-38, which the sampler would tell, it gives -inf.
    top_p, top_k   log-probabilities are those of the truncated distribution, so they are refused here
    slots   bounds its requests a batch; how many run side by side follows from the memory it takes (`memory`)
"""

from transformers import ContinuousBatchingConfig, GenerationConfig

from sampler import Completion, Engine


class ContinuousBatching(Engine):
    """See the module's docstring. `more` goes to transformers' ContinuousBatchingConfig."""

    def __init__(self, model, *, eos_ids=None, slots: int | None = 64, **more):
        super().__init__(model, eos_ids=eos_ids, slots=slots)
        self.more = more

    def sample(self, prompts, n=1, *, max_new_tokens, temperature=1.0, top_p=1.0, top_k=0, seed=0, progress=""):
        """See `Engine.sample`."""
        limits = self.check(prompts, n, max_new_tokens, temperature, top_p, top_k)
        if top_p != 1 or top_k:
            raise ValueError("continuous batching tells no log-probabilities under top_p < 1 or top_k > 0")
        if not prompts:
            return []
        ends = {"eos_token_id": sorted(self.eos_ids) or -1, "pad_token_id": 0, "max_new_tokens": max(limits)}
        drawn = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {}
        how, asked = GenerationConfig(**ends, **drawn), {"max_requests_per_batch": self.slots} | self.more
        batching = ContinuousBatchingConfig(return_logprobs=True, seed=seed % 2**63, **asked)
        with self.model.continuous_batching_context_manager(how, continuous_batching_config=batching) as manager:
            places = {}
            for i, (prompt, limit) in enumerate(zip(prompts, limits)):
                for j in range(n):
                    places[manager.add_request(prompt, max_new_tokens=limit)] = i, j
            groups: list[list[Completion]] = [[None] * n for _ in prompts]
            while places:
                result = manager.get_result(timeout=1)
                if result is None and manager.is_running():
                    continue
                if result is None or result.error:
                    raise RuntimeError(f"continuous batching failed: {result.error if result else 'its thread ended'}")
                if result.is_finished():
                    i, j = places.pop(result.request_id)
                    ids = result.generated_tokens
                    groups[i][j] = Completion(list(ids), list(result.logprobs), ids[-1] in self.eos_ids)
        return groups

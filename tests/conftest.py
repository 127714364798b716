"""Tests need no network, and their tiny models are fastest on one thread."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import torch

torch.set_num_threads(1)

"""One torch thread: the models are tiny, and two threads on a busy machine wait for each other."""

import torch

torch.set_num_threads(1)

#!/usr/bin/env python3
# One rank of a training: a small transformer that learns to write the GPL, by the text that base-files ships. Prints rank 0's
# losses exactly (hexadecimal), so that backends can be compared.
import argparse
import datetime
import os
import signal

import torch
import torch.distributed as dist
from torch import nn

TEXT = "/usr/share/common-licenses/GPL-3"
CONTEXT, WIDTH = 48, 64


class Writer(nn.Module):
    """Predicts the next letter."""

    def __init__(self, letters):
        super().__init__()
        self.letter = nn.Embedding(letters, WIDTH)
        self.place = nn.Parameter(torch.randn(CONTEXT, WIDTH) / 8)
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2)
        self.out = nn.Linear(WIDTH, letters)
        self.register_buffer("mask", torch.triu(torch.full((CONTEXT, CONTEXT), float("-inf")), 1))

    def forward(self, x):
        return self.out(self.layers(self.letter(x) + self.place, mask=self.mask))


def parallel(model, how):
    if how == "fsdp":
        from torch.distributed.fsdp import FullyShardedDataParallel
        return FullyShardedDataParallel(model, device_id=torch.device("cpu"))
    # Small buckets: several are under way at once.
    return nn.parallel.DistributedDataParallel(model, bucket_cap_mb=0.2)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--backend", default="weft")
    parser.add_argument("--how", default="ddp")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--die-at", type=int, help="the step in which the last rank kills itself, unless it was restarted")
    options = parser.parse_args()
    if "weft" in options.backend:
        import weft_torch  # noqa: F401
    torch.set_num_threads(1)
    dist.init_process_group(options.backend, timeout=datetime.timedelta(seconds=60))
    rank, size = dist.get_rank(), dist.get_world_size()

    with open(TEXT, encoding="utf-8") as file:
        text = file.read()
    letters = sorted(set(text))
    data = torch.tensor([letters.index(c) for c in text])
    torch.manual_seed(1)
    model = parallel(Writer(len(letters)), options.how)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    generator = torch.Generator().manual_seed(2)
    for step in range(options.steps):
        starts = torch.randint(len(data) - CONTEXT - 1, (12,), generator=generator)[rank::size]
        x = torch.stack([data[i:i + CONTEXT] for i in starts])
        y = torch.stack([data[i + 1:i + CONTEXT + 1] for i in starts])
        loss = nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step == options.die_at and rank == size - 1 and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
            print("dies", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        whole = loss.detach().clone()
        dist.all_reduce(whole)
        if rank == 0:
            print(f"loss {step} {(whole / size).item().hex()}", flush=True)
    dist.barrier()
    dist.destroy_process_group()


main()

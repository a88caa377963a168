#!/usr/bin/env python3
# Training with torch's DistributedDataParallel on Weft: losses are Gloo's (with two ranks bit by bit), a model learns, a killed
# rank ends the others soon with an error that names it, and torchrun's restart brings the training to its end.
# time limit: 300 s
import os
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "support"))
import jobs  # noqa: E402
import torch_ranks  # noqa: E402

TRAIN = "tests/torch/train.py"
NOTICE_S = 5.0


def losses(output):
    return [float.fromhex(line.split()[2]) for line in output.splitlines() if line.startswith("loss ")]


def trained(size, backend, how="ddp", steps=30):
    ranks = torch_ranks.start_ranks(TRAIN, size, "--backend", backend, "--how", how, "--steps", str(steps))
    found = losses(torch_ranks.finish_ranks(ranks)[0])
    jobs.check(len(found) == steps, f"{backend}, {size} ranks: {len(found)} losses instead of {steps}")
    return found


def same_as_gloo(how):
    two, gloo = trained(2, "weft", how), trained(2, "gloo", how)
    jobs.check(two == gloo, f"{how}, two ranks: losses differ from Gloo's: {two[-3:]} and {gloo[-3:]}")
    jobs.check(two[-1] < 0.8 * two[0], f"{how}: it learns nothing: {two[0]} to {two[-1]}")
    three, gloo = trained(3, "weft", how, 15), trained(3, "gloo", how, 15)
    jobs.check(all(abs(a - b) < 1e-4 for a, b in zip(three, gloo)), f"{how}, three ranks: {three[-3:]} and Gloo's {gloo[-3:]}")
    print(f"{how}: losses {two[0]:.4f} to {two[-1]:.4f}, Gloo's", flush=True)


def killed_rank():
    ranks = torch_ranks.start_ranks(TRAIN, 3, "--steps", "100000", "--die-at", "5")
    ranks[2].wait()
    died = time.monotonic()
    outputs = [ranks[rank].communicate(timeout=60)[0] for rank in (0, 1)]
    took = time.monotonic() - died
    for rank, output in enumerate(outputs):
        jobs.check(ranks[rank].returncode == 1, f"rank {rank} ended with {ranks[rank].returncode}: {output[-500:]}")
        jobs.check("RuntimeError: weft:" in output and "rank 2" in output, f"rank {rank} does not name rank 2: {output[-1500:]}")
    jobs.check(took <= NOTICE_S, f"the others ended {took:.1f} s after the death")
    print("a killed rank ends the others", flush=True)


def torchrun(folder, *meeting, **variables):
    """Two ranks, one of which dies once. torch 1.13 needs -r and -t on Python 3.11: its default for them is refused."""
    return subprocess.run(
        [torch_ranks.PYTHON, "-m", "torch.distributed.run", "-r", "1", "-t", "1", "--nproc_per_node", "2", "--max_restarts", "1",
         "--monitor_interval", "0.2", "--log_dir", folder, "--rdzv_backend", "c10d", *meeting, TRAIN, "--steps", "12", "--die-at",
         "5"],
        env=torch_ranks.environment(USE_LIBUV="0", **variables), capture_output=True, text=True, timeout=100, check=False)


def restart():
    folder = tempfile.mkdtemp()
    try:
        done = torchrun(folder, "--rdzv_endpoint", "127.0.0.1:0")
        if "libuv" in done.stderr:
            # Debian's torch 2.6: what torchrun itself meets by over TCP asks for a libuv that torch was built without. A file
            # instead.
            done = torchrun(folder, "--rdzv_endpoint", os.path.join(folder, "meet"), "--rdzv_conf", "store_type=file",
                            "--local_addr", "127.0.0.1", TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1")
    finally:
        shutil.rmtree(folder)
    found = [line.split("]:", 1)[-1] for line in done.stdout.splitlines()]
    jobs.check(done.returncode == 0, f"torchrun ended with {done.returncode}: {done.stdout[-500:]} {done.stderr[-1500:]}")
    jobs.check("dies" in done.stdout, f"nobody died: {done.stdout[-500:]}")
    numbers = [int(line.split()[1]) for line in found if line.startswith("loss ")]
    jobs.check(numbers[-12:] == list(range(12)) and len(numbers) > 12, f"steps {numbers}")
    print("torchrun's restart ends the training", flush=True)


if __name__ == "__main__":
    torch_ranks.skip_without_torch()
    if not os.path.exists("/usr/share/common-licenses/GPL-3"):
        jobs.skip("the text to learn, /usr/share/common-licenses/GPL-3, is not there")
    same_as_gloo("ddp")
    # FSDP of torch 1.13 cannot be imported by Python 3.11; torch 2.6's can.
    if os.environ.get("TRAIN_FSDP"):
        same_as_gloo("fsdp")
    killed_rank()
    restart()
    jobs.finish()

# What the tests of weft_torch share: which Python has torch, whether weft_torch is built for it, and starting a script's
# ranks.
import glob
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import jobs  # noqa: E402

BUILD = os.path.abspath(os.environ.get("BUILD", "build"))
PYTHON = os.environ.get("TORCH_PYTHON", "/usr/bin/python3")


def is_rank():
    return "RANK" in os.environ


def skip_without_torch():
    """Ends the script with a reason unless weft_torch can be imported."""
    said = subprocess.run([PYTHON, "integrations/pytorch/flags", "suffix"], capture_output=True, text=True, check=False)
    compiled = subprocess.run([PYTHON, "integrations/pytorch/flags", "compile"], capture_output=True, text=True, check=False)
    if said.returncode or compiled.returncode:
        jobs.skip((said.stderr or compiled.stderr).strip() or f"no {PYTHON}")
    if not glob.glob(os.path.join(BUILD, "python", "weft_torch", "_C" + said.stdout.strip())):
        jobs.skip(f"weft_torch is not built in {BUILD}: make pytorch")


def environment(**more):
    path = os.path.join(BUILD, "python") + (":" + os.environ["PYTHONPATH"] if os.environ.get("PYTHONPATH") else "")
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", **more}


def start_ranks(script, size, *arguments, **more):
    """The processes of a job, by the variables that torchrun sets."""
    common = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(jobs.free_port()), "USE_LIBUV": "0"}
    return [subprocess.Popen([PYTHON, script, *arguments],
                             env=environment(**common, RANK=str(rank), LOCAL_RANK=str(rank), **more),
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=jobs.die_with_parent)
            for rank in range(size)]


def finish_ranks(processes, limit=100):
    """Outputs by rank; ends the script if a rank failed."""
    outputs = []
    for rank, process in enumerate(processes):
        try:
            outputs.append(process.communicate(timeout=limit)[0])
        except subprocess.TimeoutExpired:
            for other in processes:
                other.kill()
            print(f"rank {rank} did not end: {process.communicate()[0][-3000:]}")
            sys.exit(1)
    for rank, process in enumerate(processes):
        if process.returncode:
            print(f"rank {rank} ended with {process.returncode}:\n{outputs[rank][-3000:]}")
            sys.exit(1)
    return outputs


def run_ranks(script, size):
    print("".join(finish_ranks(start_ranks(script, size))[:1]))
    sys.exit(0)

"""What the tests of this folder share: is the part that they need in this build, and a command run in the machine."""
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
os.environ.setdefault("BUILD", "build")
BUILD = os.environ["BUILD"]


def skip(reason):
    print(reason)
    sys.exit(77)


def need_verbs():
    test = os.path.join(BUILD, "tests", "conformance", "test_verbs")
    if not os.path.exists(test):
        skip(f"{test} is not there: run make tests")
    if subprocess.run([test, "present"], stdout=subprocess.DEVNULL, check=False).returncode == 77:
        skip("verbs is not in this build, for want of libibverbs-dev")


def run(limit, command, *options):
    """Ends the test as the command in the machine ended, which has so many seconds."""
    result = subprocess.run([os.path.join(HERE, "machine"), *options, "--timeout", str(limit), "--environment", "BUILD", "--",
                             *command],
                            check=False)
    sys.exit(result.returncode)


def run_inside(limit, *parts):
    run(limit, ["python3", os.path.join(HERE, "inside.py"), *parts], "--verbose")

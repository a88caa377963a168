"""Ports for the meeting places of jobs on this host; also for the tests."""
import random
import socket


def free_port():
    """Below those that the kernel gives to outgoing connections, which others that run beside this may fill."""
    for port in random.sample(range(20000, 32000), 100):
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass
    raise OSError("none of 100 ports between 20000 and 32000 is free")

"""Builds weft_torch._C for pip. Weft itself is found by WEFT_BUILD (a build folder), else beside this folder, else by
pkg-config."""
import glob
import os
import shlex
import subprocess
import sys

from setuptools import Extension, setup

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))


def flags(which):
    return shlex.split(subprocess.run([sys.executable, os.path.join(HERE, "flags"), which], check=True, stdout=subprocess.PIPE,
                                      text=True).stdout)


def weft():
    """(compiler flags, folder of libweft.so)"""
    build = os.environ.get("WEFT_BUILD", os.path.join(TOP, "build"))
    if os.path.exists(os.path.join(build, "lib", "libweft.so")):
        sources = TOP if os.path.isdir(os.path.join(TOP, "include", "weft")) else os.path.dirname(os.path.abspath(build))
        return ["-I" + os.path.join(sources, "include")], os.path.abspath(os.path.join(build, "lib"))
    try:
        def ask(*what):
            return subprocess.run(["pkg-config", *what, "weft"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        return shlex.split(ask("--cflags")), ask("--variable=libdir")
    except (OSError, subprocess.CalledProcessError):
        sys.exit("weft is not there: run make, or make install, or set WEFT_BUILD to a build folder")


compile_flags, library = weft()
setup(ext_modules=[Extension(
    "weft_torch._C", sorted(os.path.relpath(path, HERE) for path in glob.glob(os.path.join(HERE, "src", "*.cpp"))),
    language="c++",
    extra_compile_args=["-O2", "-g1", "-fvisibility=hidden", *compile_flags, *flags("compile")],
    extra_link_args=["-L" + library, "-lweft", "-Wl,-rpath," + library, *flags("link")])])

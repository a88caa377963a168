"""Weft as a backend of torchcomms: torchcomms.new_comm("weft", torch.device("cpu"), name="main").

torchcomms finds this module by its entry point and then loads the library that the variable names; nothing has to be imported."""
import os

os.environ.setdefault("TORCHCOMMS_BACKEND_LIB_PATH_WEFT",
                      os.path.join(os.path.dirname(os.path.abspath(__file__)), "libweft-torchcomms.so"))

# Weft's build. `make help` lists the targets; everything lands in $(BUILD).
ifeq ($(MAKELEVEL),0)
MAKEFLAGS += -j$(shell nproc)
endif
ifeq ($(origin CC),default)
CC := gcc
endif

# SANITIZE=address,undefined or SANITIZE=thread builds beside the release build.
SANITIZE ?=
ifeq ($(SANITIZE),)
BUILD ?= build
CFLAGS ?= -O3 -g
else
BUILD ?= build/$(if $(findstring thread,$(SANITIZE)),tsan,asan)
CFLAGS ?= -O1 -g -fno-omit-frame-pointer -fsanitize=$(SANITIZE) -fno-sanitize-recover=all
endif
PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
DESTDIR ?=
# Warnings are errors where we build; WERROR= lets a compiler that knows more warnings pass.
WERROR ?= -Werror

# V=1 shows whole commands.
ifeq ($(V),)
say = @mkdir -p $(@D); printf '  %-4s %s\n' '$(1)' '$(patsubst $(BUILD)/%,%,$(if $(2),$(2),$@))';
else
say = @mkdir -p $(@D); set -x;
endif

WARNINGS := -Wall -Wextra -Wshadow -Wvla -Wstrict-prototypes -Wpointer-arith $(WERROR)
ifneq ($(findstring clang,$(CC)),)
# Loops that a pragma asks to vectorise stay as they are in sanitizer builds, which is no fault; and clang warns of members
# left out of an initializer also where gcc sees that this is meant.
WARNINGS += -Wno-pass-failed -Wno-missing-field-initializers
else ifneq ($(findstring -fsanitize,$(CFLAGS)),)
# What a sanitizer adds to the code misleads the warnings that follow values; the release build is the judge of those.
WARNINGS += -Wno-maybe-uninitialized -Wno-format-truncation -Wno-dangling-pointer -Wno-error
endif
# gcc clears structures of more than 64 bytes by an instruction that takes 20 ns, more than the stores: a short call has 100.
MEMSET := -mmemset-strategy=unrolled_loop:256:noalign,libcall:-1:noalign
INLINE_MEMSET := $(shell $(CC) $(MEMSET) -E -x c /dev/null >/dev/null 2>&1 && echo $(MEMSET))
# RDMA verbs are built in where the headers are; the library itself is loaded when it is used.
HAVE_VERBS := $(shell pkg-config --exists libibverbs 2>/dev/null && echo -DWEFT_HAVE_VERBS)
ALL_CFLAGS := -std=gnu11 -fPIC -fvisibility=hidden -pthread $(WARNINGS) $(INLINE_MEMSET) -Iinclude -Isrc $(HAVE_VERBS) $(CPPFLAGS) $(CFLAGS)
LIBS := -pthread -ldl -lm

version_part = $(shell sed -n 's/^.define WEFT_VERSION_$(1) *//p' include/weft/weft.h)
MAJOR := $(call version_part,MAJOR)
VERSION := $(MAJOR).$(call version_part,MINOR).$(call version_part,PATCH)

# ---- what there is to build -----------------------------------------------------------------------

HEADERS := $(wildcard include/weft/*.h)
LIB_SRC := $(sort $(wildcard src/*/*.c src/*/*/*.c))
ifeq ($(HAVE_VERBS),)
LIB_SRC := $(filter-out src/transport/verbs/%,$(LIB_SRC))
endif
# The transport "ucx" is a library of its own, where UCX is.
UCX_SRC := $(sort $(wildcard src/transport/ucx/*.c))
LIB_SRC := $(filter-out $(UCX_SRC),$(LIB_SRC))
# The reduction kernels last: Linux maps 64 KB around a page that is touched, and most of these 700 KB never are.
KERNEL_SRC := $(wildcard $(addprefix src/collectives/reduce_,plain.c avx*.c neon.c sve.c))
LIB_SRC := $(filter-out $(KERNEL_SRC),$(LIB_SRC)) $(KERNEL_SRC)
LIB_OBJ := $(LIB_SRC:%.c=$(BUILD)/obj/%.o)
ifneq ($(shell pkg-config --exists 'ucx >= 1.13' 2>/dev/null && echo yes),)
TRANSPORTS += $(BUILD)/lib/weft/libweft-transport-ucx.so
endif
STATIC := $(BUILD)/lib/libweft.a
SHARED := $(BUILD)/lib/libweft.so.$(VERSION)

# A program is DIR/weft-NAME.c and its parts DIR/NAME_*.c; perf/bench_*.c are micro-benchmarks.
object = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
PERF_SRC := $(wildcard perf/weft-*.c perf/perf_*.c perf/bench_*.c)
TOOL_SRC := $(wildcard tools/*.c)
PERF_PARTS := $(call object,$(wildcard perf/perf_*.c))
MPI_PARTS := $(call object,$(wildcard perf/weft-perf-mpi*.c))
PROGRAMS := $(patsubst perf/%.c,$(BUILD)/bin/%,$(filter-out perf/weft-perf-mpi%,$(wildcard perf/weft-*.c))) \
            $(patsubst perf/%.c,$(BUILD)/bin/%,$(wildcard perf/bench_*.c)) \
            $(patsubst tools/%.c,$(BUILD)/bin/%,$(wildcard tools/weft-*.c))
# Debian's openmpi-bin has the compiler wrapper without mpi.h, so it is tried.
HASH := \#
MPICC ?= $(shell echo '$(HASH)include <mpi.h>' | mpicc -fsyntax-only -x c - 2>/dev/null && command -v mpicc)
ifneq ($(and $(MPICC),$(MPI_PARTS)),)
PROGRAMS += $(BUILD)/bin/weft-perf-mpi
endif

# The comparison with other libraries: one program each around the same loop, beside the one that measures floors. Weft's own is
# built with the rest, so that it cannot rot; the others by `make compare`, where their packages are.
COMPARE_DIR := $(BUILD)/compare
COMPARE_SOURCES := $(patsubst %,perf/compare/%.c,measure check overlap)
COMPARE_PARTS := $(COMPARE_SOURCES:%.c=$(BUILD)/obj/%.o)
PROGRAMS += $(patsubst %,$(COMPARE_DIR)/compare-%,weft floors spawn)
ifneq ($(filter compare%,$(MAKECMDGOALS)),)
COMPARE_PEERS := $(foreach mpi,openmpi mpich,$(if $(shell command -v mpicc.$(mpi)),$(COMPARE_DIR)/compare-$(mpi))) \
                 $(if $(wildcard /usr/include/gloo/context.h),$(COMPARE_DIR)/compare-gloo)
endif

TEST_SRC := $(sort $(wildcard tests/unit/test_*.c tests/property/test_*.c tests/conformance/test_*.c))
TESTS := $(TEST_SRC:%.c=$(BUILD)/%)
# What several tests share: tests/NAME/support_*.c, linked into every test of that kind, and tests/support_*.c into all.
SUPPORT_SRC := $(wildcard tests/support_*.c tests/*/support_*.c)
FUZZ_SRC := $(sort $(wildcard tests/fuzz/fuzz_*.c))
FUZZERS := $(FUZZ_SRC:%.c=$(BUILD)/%)
SCRIPTS := $(sort $(wildcard tests/multi/*.sh tests/multi/*.py))

all: $(STATIC) $(SHARED) $(PROGRAMS) $(TRANSPORTS) python mpi ompi-coll-if-there nccl-net $(BUILD)/summary
programs: $(STATIC) $(SHARED) $(PROGRAMS)
tests: $(TESTS) $(FUZZERS)
fuzzers: $(FUZZERS)
help:
	@echo 'make                 library and programs into $(BUILD)/lib and $(BUILD)/bin'
	@echo 'make deps            install the packages that the build and make test use (Debian, as root)'
	@echo 'make run             build and run the main job: an all_reduce sweep over 4 ranks, checked'
	@echo 'make test            every test this machine can run, within 10 minutes'
	@echo 'make test-full       sanitizer builds of the tests and longer fuzzing, within 15 minutes more'
	@echo 'make test-all        both, and Open MPI 5 and torch 2.6 in a Debian 13 folder'
	@echo 'make python          the package weft for Python into $(BUILD)/python'
	@echo 'make compare         Weft beside Open MPI, MPICH and Gloo: table, JSON and plot in $(BUILD)/compare (COMPARE=quick: 3 minutes)'
	@echo 'make compare-torch   torch on Weft beside torch on Gloo'
	@echo 'make compare-passed  what libweft-mpi.so adds to a call that it passes on to the MPI'
	@echo 'make mpi             libweft-mpi.so for each MPI into $(BUILD)/lib/openmpi and $(BUILD)/lib/mpich'
	@echo 'make ompi-coll       mca_coll_weft.so, a component of Open MPI 4.1, into $(BUILD)/lib/openmpi'
	@echo 'make pytorch         weft_torch, the backend of torch.distributed, into $(BUILD)/python (TORCH_PYTHON=$(TORCH_PYTHON))'
	@echo 'make torchcomms      weft_torchcomms, for torchcomms (TORCHCOMMS=: the folder of its sources)'
	@echo 'make nccl-net        libnccl-net-weft.so, Weft as a network plugin of NCCL, into $(BUILD)/lib'
	@echo 'make check-style     layers, banned functions, headers alone, exported symbols'
	@echo 'make install         PREFIX=$(PREFIX) DESTDIR=$(DESTDIR)'
	@echo 'make uninstall       the same PREFIX and DESTDIR: takes away what install puts there'
	@echo 'make clean'
	@echo 'SANITIZE=address,undefined or thread, CC=, CFLAGS=, BUILD= change what is built and where.'

# ---- compiling and linking ------------------------------------------------------------------------

# Changes only when the flags do; everything depends on it.
$(BUILD)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(CC) $(ALL_CFLAGS)' | cmp -s - $@ || echo '$(CC) $(ALL_CFLAGS)' > $@
FORCE:

$(MPI_PARTS): $(BUILD)/obj/%.o: %.c $(BUILD)/flags
	$(call say,CC,$<) OMPI_CC='$(CC)' MPICH_CC='$(CC)' $(MPICC) $(ALL_CFLAGS) -MMD -MP -c $< -o $@
$(BUILD)/obj/%.o: %.c $(BUILD)/flags
	$(call say,CC,$<) $(CC) $(ALL_CFLAGS) -MMD -MP -c $< -o $@
$(STATIC): $(LIB_OBJ)
	$(call say,AR) rm -f $@ && ar rcs $@ $^
# Its threads live as long as communicators do, also of programs that dlclose() it before.
$(SHARED): $(LIB_OBJ)
	$(call say,LD) $(CC) $(CFLAGS) -shared -Wl,-soname,libweft.so.$(MAJOR),-z,nodelete $^ -o $@ $(LIBS) && \
	    ln -sf $(@F) $(@D)/libweft.so.$(MAJOR) && ln -sf $(@F) $(@D)/libweft.so

# What it needs of src/base comes out of the static library and stays inside; of libweft itself it needs nothing.
$(BUILD)/lib/weft/libweft-transport-ucx.so: $(UCX_SRC:%.c=$(BUILD)/obj/%.o) $(STATIC)
	$(call say,LD) $(CC) $(CFLAGS) -shared $(filter %.o,$^) -o $@ -Wl,--exclude-libs,ALL $(STATIC) $(shell pkg-config --libs ucx) $(LIBS)

link = $(call say,LD) $(CC) $(CFLAGS) $(filter %.o,$^) $(filter %.a,$^) -o $@ $(1) $(LIBS)
$(BUILD)/bin/weft-perf: $(PERF_PARTS)
$(BUILD)/bin/weft-perf-mpi: $(MPI_PARTS) $(PERF_PARTS) $(STATIC)
	$(call say,LD) OMPI_CC='$(CC)' MPICH_CC='$(CC)' $(MPICC) $(CFLAGS) $^ -o $@ $(LIBS)
# What compares is built for this machine, so that no library is held back by the parts of it that are built here.
COMPARE_CFLAGS := -O3 -march=native
$(BUILD)/obj/perf/compare/%.o: perf/compare/%.c $(BUILD)/flags
	$(call say,CC,$<) $(CC) $(ALL_CFLAGS) $(COMPARE_CFLAGS) -MMD -MP -c $< -o $@
$(COMPARE_DIR)/compare-weft: $(BUILD)/obj/perf/compare/peer_weft.o $(COMPARE_PARTS) $(STATIC)
	$(call link)
$(COMPARE_DIR)/compare-floors $(COMPARE_DIR)/compare-spawn: $(COMPARE_DIR)/compare-%: $(BUILD)/obj/perf/compare/%.o
	$(call link)
COMPARE_MPI := $(COMPARE_DIR)/compare-openmpi $(COMPARE_DIR)/compare-mpich
$(COMPARE_MPI): $(COMPARE_DIR)/compare-%: perf/compare/peer_mpi.c $(COMPARE_PARTS) perf/compare/measure.h
	$(call say,MPI) OMPI_CC='$(CC)' MPICH_CC='$(CC)' mpicc.$* $(CFLAGS) $(COMPARE_CFLAGS) $(filter %.c %.o,$^) -o $@ $(LIBS)
$(COMPARE_DIR)/passed-%: perf/compare/passed.c $(BUILD)/flags
	$(call say,MPI) OMPI_CC='$(CC)' MPICH_CC='$(CC)' mpicc.$* $(ALL_CFLAGS) $< -o $@
$(COMPARE_DIR)/compare-gloo: perf/compare/peer_gloo.cc $(COMPARE_PARTS) perf/compare/measure.h
	$(call say,CXX) $(CXX) -Wall -Wextra $(CFLAGS) $(COMPARE_CFLAGS) $(filter %.cc %.o,$^) -o $@ -lgloo $(LIBS)
# Built whole inside: its libc is newer than ours.
$(COMPARE_DIR)/compare-openmpi5: perf/compare/peer_mpi.c $(wildcard perf/compare/*.h) $(COMPARE_SOURCES)
	perf/compare/debian13 make '$(abspath $(BUILD)/debian13)'
	$(call say,MPI) perf/compare/debian13 run '$(abspath $(BUILD)/debian13)' '$(CURDIR)' sh -c \
	    'cd "$(CURDIR)" && mpicc.openmpi -std=gnu11 $(COMPARE_CFLAGS) $(filter %.c,$^) -o "$(abspath $@)"'

define tool_parts
$(BUILD)/bin/weft-$(1): $(call object,$(wildcard tools/$(1)_*.c))
endef
$(foreach t,$(patsubst tools/weft-%.c,%,$(wildcard tools/weft-*.c)),$(eval $(call tool_parts,$(t))))
$(BUILD)/bin/%: $(BUILD)/obj/perf/%.o $(STATIC)
	$(call link)
$(BUILD)/bin/%: $(BUILD)/obj/tools/%.o $(STATIC)
	$(call link)

# ---- integrations ---------------------------------------------------------------------------------

PYTHON_SRC := $(wildcard integrations/python/weft/*.py)
PYTHON := $(PYTHON_SRC:integrations/python/%=$(BUILD)/python/%) $(BUILD)/python/pyproject.toml $(BUILD)/python/weft/libweft.so.$(MAJOR)
python: $(PYTHON)
$(BUILD)/python/weft/libweft.so.$(MAJOR): $(SHARED)
	$(call say,LN) ln -sf ../../lib/$(@F) $@
$(BUILD)/python/%: integrations/python/%
	$(call say,CP) cp $< $@

# libweft-mpi.so, one for each MPI: by its own compiler wrapper and mpi.h.
MPI_SRC := $(sort $(wildcard integrations/mpi/*.c))
mpi_wrapper = $(shell echo '$(HASH)include <mpi.h>' | mpicc.$(1) -fsyntax-only -x c - 2>/dev/null && command -v mpicc.$(1))
define mpi_library
ifneq ($$(call mpi_wrapper,$(1)),)
MPI_LIBRARIES += $(BUILD)/lib/$(1)/libweft-mpi.so
$(MPI_SRC:%.c=$(BUILD)/obj/$(1)/%.o): $(BUILD)/obj/$(1)/%.o: %.c $(BUILD)/flags
	$$(call say,CC,$$< for $(1)) OMPI_CC='$(CC)' MPICH_CC='$(CC)' mpicc.$(1) $$(ALL_CFLAGS) -MMD -MP -c $$< -o $$@
$(BUILD)/lib/$(1)/libweft-mpi.so: $(MPI_SRC:%.c=$(BUILD)/obj/$(1)/%.o) $(SHARED)
	$$(call say,LD) OMPI_CC='$(CC)' MPICH_CC='$(CC)' mpicc.$(1) $$(CFLAGS) -shared $$(filter %.o,$$^) -o $$@ \
	    -L$(BUILD)/lib -lweft '-Wl,-rpath,$$$$ORIGIN/..:$$$$ORIGIN/../..' -pthread -ldl
endif
endef
$(foreach m,openmpi mpich,$(eval $(call mpi_library,$(m))))
mpi: $(MPI_LIBRARIES)

# A component of Open MPI, of what libweft-mpi.so is made of without the functions that it takes from programs. Built with the
# headers of Open MPI's inside, which Debian's libopenmpi-dev has; tried with 4.1, which changed none of them.
OMPI_COLL_SRC := $(sort $(wildcard integrations/ompi-coll/*.c)) \
    $(patsubst %,integrations/mpi/%.c,communicator operation prepare progress report requests types)
OMPI_INCLUDES := $(patsubst %,-isystem %,$(if $(call mpi_wrapper,openmpi),$(shell mpicc.openmpi -showme:incdirs)))
OMPI_PROBE := $(HASH)include <ompi/mca/coll/coll.h>\n_Static_assert(OMPI_MAJOR_VERSION == 4 && OMPI_MINOR_VERSION == 1, "");\n
ompi_inside = $(shell printf '$(OMPI_PROBE)' | $(CC) -std=gnu11 $(OMPI_INCLUDES) -fsyntax-only -x c - 2>/dev/null && echo yes)
OMPI_COLL := $(if $(OMPI_INCLUDES),$(if $(call ompi_inside),$(BUILD)/lib/openmpi/mca_coll_weft.so))
OMPI_COLL_OBJ := $(OMPI_COLL_SRC:%.c=$(BUILD)/obj/openmpi/%.o)
$(filter $(BUILD)/obj/openmpi/integrations/ompi-coll/%,$(OMPI_COLL_OBJ)): $(BUILD)/obj/openmpi/%.o: %.c $(BUILD)/flags
	$(call say,CC,$<) $(CC) $(ALL_CFLAGS) $(if $(filter x86_64-%,$(shell $(CC) -dumpmachine)),-mcx16) $(OMPI_INCLUDES) -MMD -MP -c $< -o $@
$(OMPI_COLL): $(OMPI_COLL_OBJ) $(SHARED)
	$(call say,LD) OMPI_CC='$(CC)' mpicc.openmpi $(CFLAGS) -shared -Wl,-z,nodelete,--no-undefined $(filter %.o,$^) -o $@ \
	    -L$(BUILD)/lib -lweft '-Wl,-rpath,$$ORIGIN/..:$$ORIGIN/../..' -pthread -lopen-pal -ldl
ompi-coll-if-there: $(OMPI_COLL)
ompi-coll: $(OMPI_COLL)
	$(if $(OMPI_COLL),,@echo 'make ompi-coll: the headers of the inside of Open MPI 4.1 (package libopenmpi-dev of Debian 12) are not there' >&2; exit 1)

# weft_torch for the torch of TORCH_PYTHON, named for that Python, so that those of several stand side by side. Built on request.
TORCH_PYTHON ?= /usr/bin/python3
TORCH_SRC := $(sort $(wildcard integrations/pytorch/src/*.cpp))
TORCH_PY := $(patsubst integrations/pytorch/%,$(BUILD)/python/%,$(wildcard integrations/pytorch/weft_torch/*.py))
ifneq ($(filter pytorch,$(MAKECMDGOALS)),)
torch_flags = $(shell $(TORCH_PYTHON) integrations/pytorch/flags $(1) || echo no-torch)
TORCH_SUFFIX := $(call torch_flags,suffix)
TORCH_COMPILE := $(call torch_flags,compile)
ifneq ($(filter no-torch,$(TORCH_COMPILE)),)
$(error make pytorch: $(TORCH_PYTHON) has no torch to build with (TORCH_PYTHON= names another))
endif
TORCH_OBJ := $(TORCH_SRC:%.cpp=$(BUILD)/obj/%$(TORCH_SUFFIX).o)
TORCH_MODULE := $(BUILD)/python/weft_torch/_C$(TORCH_SUFFIX)
$(TORCH_OBJ): $(BUILD)/obj/%$(TORCH_SUFFIX).o: %.cpp $(BUILD)/flags
	$(call say,CXX,$<) $(CXX) -O2 -g1 -fPIC -fvisibility=hidden -Wall -Wextra $(WERROR) -Iinclude $(TORCH_COMPILE) -MMD -MP -c $< -o $@
$(TORCH_MODULE): $(TORCH_OBJ) $(SHARED)
	$(call say,LD) $(CXX) -shared $(TORCH_OBJ) -o $@ -L$(BUILD)/lib -lweft '-Wl,-rpath,$$ORIGIN/../../lib' $(call torch_flags,link)
-include $(TORCH_OBJ:.o=.d)
endif
pytorch: $(TORCH_MODULE) $(TORCH_PY)
$(TORCH_PY): $(BUILD)/python/%: integrations/pytorch/%
	$(call say,CP) cp $< $@
# weft_torchcomms, by which torchcomms loads Weft: weft_torch's sources without Python, and the layer. Needs torchcomms in TORCH_PYTHON
# and, at TORCHCOMMS, its sources for the headers.
TORCHCOMMS ?=
ifneq ($(filter torchcomms,$(MAKECMDGOALS)),)
ifeq ($(wildcard $(TORCHCOMMS)/comms/torchcomms/TorchCommBackend.hpp),)
$(error make torchcomms: TORCHCOMMS= must name the folder of torchcomms' sources, for comms/torchcomms/TorchCommBackend.hpp)
endif
TC_PLACE := $(shell $(TORCH_PYTHON) -c "import importlib.util as u; print(u.find_spec('torchcomms').submodule_search_locations[0])")
TC_FLAGS := $(shell $(TORCH_PYTHON) integrations/pytorch/flags compile) -I$(TORCHCOMMS) -Iinclude -Iintegrations/pytorch/src
TC_SRC := $(filter-out %/module.cpp,$(TORCH_SRC)) $(wildcard integrations/torchcomms/src/*.cpp)
TC_OBJ := $(TC_SRC:%.cpp=$(BUILD)/obj/%.torchcomms.o)
TC_LIBRARY := $(BUILD)/python/weft_torchcomms/libweft-torchcomms.so
$(TC_OBJ): $(BUILD)/obj/%.torchcomms.o: %.cpp $(BUILD)/flags
	$(call say,CXX,$<) $(CXX) -O2 -g1 -fPIC -fvisibility=hidden -Wall -Wextra $(WERROR) $(TC_FLAGS) -MMD -MP -c $< -o $@
$(TC_LIBRARY): $(TC_OBJ) $(SHARED)
	$(call say,LD) $(CXX) -shared $(TC_OBJ) -o $@ -L$(BUILD)/lib -lweft '-Wl,-rpath,$$ORIGIN/../../lib' -L$(TC_PLACE) -ltorchcomms \
	    $(filter-out -ltorch_python,$(shell $(TORCH_PYTHON) integrations/pytorch/flags link))
-include $(TC_OBJ:.o=.d)
endif
TC_PY := $(patsubst integrations/torchcomms/%,$(BUILD)/python/%,$(wildcard integrations/torchcomms/weft_torchcomms*/*))
torchcomms: $(TC_LIBRARY) $(TC_PY)
$(TC_PY): $(BUILD)/python/%: integrations/torchcomms/%
	$(call say,CP) cp $< $@
# What the tests need: built where torch is installed, else the tests say that it is not. The library first: two makes must not
# write it at once.
pytorch-if-there: $(SHARED)
	@if $(TORCH_PYTHON) integrations/pytorch/flags compile >/dev/null 2>&1; then $(MAKE) --no-print-directory pytorch; fi
# The plugin for NCCL: whole in itself, so that nothing but libc has to be there where NCCL loads it; it exports its tables only.
NCCL_NET_SRC := $(sort $(wildcard integrations/nccl-net/*.c))
NCCL_NET := $(BUILD)/lib/libnccl-net-weft.so
$(NCCL_NET): $(call object,$(NCCL_NET_SRC)) $(STATIC)
	$(call say,LD) $(CC) $(CFLAGS) -shared -Wl,-soname,$(@F) -Wl,--exclude-libs,ALL $(filter %.o,$^) $(STATIC) -o $@ $(LIBS)
.PHONY: nccl-net
nccl-net: $(NCCL_NET)

define kind_support
$(BUILD)/tests/$(1)/%: $(BUILD)/obj/tests/$(1)/%.o $(call object,$(wildcard tests/support_*.c tests/$(1)/support_*.c)) $(STATIC)
	$$(call link,-lcmocka)
endef
$(foreach kind,unit property conformance,$(eval $(call kind_support,$(kind))))

# A NCCL network plugin for the tests, once for each version of the interface.
FAKE_NETS := $(foreach v,6 7 8 9 10 11 12,$(BUILD)/tests/conformance/libnccl-net-fake$(v).so)
$(BUILD)/tests/conformance/libnccl-net-fake%.so: tests/conformance/fake_net.c src/transport/plugin/nccl_abi.h $(BUILD)/flags
	$(call say,CC) $(CC) $(ALL_CFLAGS) -DNET_VERSION=$* -shared $< -o $@
$(BUILD)/tests/conformance/test_plugin: | $(FAKE_NETS)

# A fuzzer exports LLVMFuzzerTestOneInput; without libFuzzer a small driver replays its corpus and mutates it.
ifneq ($(findstring fuzzer,$(CFLAGS)),)
FUZZ_LINK := -fsanitize=fuzzer
else
FUZZ_DRIVER := $(BUILD)/obj/tests/fuzz/driver.o
endif
$(BUILD)/tests/fuzz/%: $(BUILD)/obj/tests/fuzz/%.o $(FUZZ_DRIVER) $(call object,$(wildcard tests/fuzz/support_*.c)) $(STATIC)
	$(call link,$(FUZZ_LINK))

# What the build found. Only MPI is used so far, by weft-perf-mpi; the others are named for what will use them.
found = printf '  %-8s %s\n' '$(1)' '$(if $(2),$(2),not found: $(3))$(4)';
pkg_version = $(shell pkg-config --modversion $(1) 2>/dev/null)
$(BUILD)/summary: $(STATIC) $(SHARED) $(PROGRAMS)
	@{ echo 'weft $(VERSION) in $(BUILD): $(CC) $(CFLAGS)'; \
	$(call found,mpi,$(MPICC),libopenmpi-dev or libmpich-dev, (for weft-perf-mpi)) \
	$(foreach m,openmpi mpich,$(call found,$(m),$(call mpi_wrapper,$(m)),lib$(m)-dev, (for $(BUILD)/lib/$(m)/libweft-mpi.so))) \
	$(call found,verbs,$(call pkg_version,libibverbs),libibverbs-dev, (transport verbs)) \
	$(call found,ucx,$(call pkg_version,ucx),libucx-dev, (transport ucx)) \
	} | tee $@

# ---- the two commands, and the rest ---------------------------------------------------------------

ROOT := $(filter 0,$(shell id -u))
deps:
	@tools/deps build test
deps-run:
	@tools/deps build $(if $(ROOT),test)
deps-full:
	@tools/deps build test full torch
deps-compare:
	@tools/deps build compare

run: deps-run
	@$(MAKE) --no-print-directory all
	$(BUILD)/bin/weft-perf all_reduce --ranks 4 -b 8 -e 32M -f 4

# COMPARE=quick: three minutes, shared memory only; COMPARE_DEBIAN13=1: Open MPI 5 too, from a Debian 13 in a folder; COMPARE_ARGS: see perf/compare/compare.py --help.
COMPARE_ARGS ?=
compare: deps-compare
	@$(MAKE) --no-print-directory all compare-programs
	$(if $(COMPARE_DEBIAN13),@$(MAKE) --no-print-directory $(COMPARE_DIR)/compare-openmpi5)
	@BUILD='$(BUILD)' COMPARE_DEBIAN13_FOLDER='$(abspath $(BUILD)/debian13)' python3 perf/compare/compare.py --programs "$(COMPARE_DIR)" $(if $(filter quick,$(COMPARE)),--quick) $(COMPARE_ARGS)
# torch on Weft beside torch on Gloo; COMPARE_ARGS: see perf/compare/torch_compare.py --help.
compare-torch:
	@tools/deps build torch
	@$(MAKE) --no-print-directory pytorch
	@perf/compare/torch_compare.py --build '$(BUILD)' --python $(TORCH_PYTHON) $(COMPARE_ARGS)
# What it costs that libweft-mpi.so passes a call on.
compare-passed: $(MPI_LIBRARIES) $(foreach mpi,openmpi mpich,$(if $(call mpi_wrapper,$(mpi)),$(COMPARE_DIR)/passed-$(mpi)))
	$(if $(call mpi_wrapper,openmpi),OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 mpirun.openmpi -n 2 \
	    -x LD_PRELOAD='$(abspath $(BUILD))/lib/openmpi/libweft-mpi.so' $(COMPARE_DIR)/passed-openmpi)
	$(if $(call mpi_wrapper,mpich),mpirun.mpich -n 2 -genv LD_PRELOAD '$(abspath $(BUILD))/lib/mpich/libweft-mpi.so' \
	    $(COMPARE_DIR)/passed-mpich)
compare-programs: $(patsubst %,$(COMPARE_DIR)/compare-%,weft floors spawn) $(COMPARE_PEERS)

# Seconds that each fuzzer runs in `make test`, and in `make test-full`.
FUZZ_SECONDS ?= 3
FUZZ_SECONDS_FULL ?= 30
test: deps
	@$(MAKE) --no-print-directory all tests pytorch-if-there
	@BUILD='$(BUILD)' CC='$(CC)' FUZZ_SECONDS=$(FUZZ_SECONDS) \
	    tests/run $(TESTS) $(FUZZERS) $(SCRIPTS) tools/check-style

test-full: deps-full
	@CC='$(CC)' FUZZ_SECONDS=$(FUZZ_SECONDS_FULL) tests/run-full
test-all:
	@$(MAKE) --no-print-directory test
	@$(MAKE) --no-print-directory test-full
	@LABEL=debian13 JOBS=1 tests/run tests/mpi/openmpi5.sh tests/torch/debian13.sh tests/torch/comms.py

check-style: all
	@BUILD='$(BUILD)' CC='$(CC)' tools/check-style

# Programs find a library in /usr/local/lib by the dynamic linker's cache only; a user who may not write it has a place of his own.
refresh_linker = $(if $(DESTDIR),,PATH="$$PATH:/sbin:/usr/sbin" ldconfig 2>/dev/null || true)
MAN_PAGES := $(wildcard docs/man/*.[1-9])
install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/include/weft $(DESTDIR)$(LIBDIR)/pkgconfig
	install -m 644 $(HEADERS) $(DESTDIR)$(PREFIX)/include/weft
	install -m 644 $(STATIC) $(DESTDIR)$(LIBDIR)
	install -m 755 $(SHARED) $(DESTDIR)$(LIBDIR)
	ln -sf libweft.so.$(VERSION) $(DESTDIR)$(LIBDIR)/libweft.so.$(MAJOR)
	ln -sf libweft.so.$(MAJOR) $(DESTDIR)$(LIBDIR)/libweft.so
	sed -e 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR)|; s|@VERSION@|$(VERSION)|' weft.pc.in \
	    > $(DESTDIR)$(LIBDIR)/pkgconfig/weft.pc
	$(foreach program,$(filter $(BUILD)/bin/weft-%,$(PROGRAMS)),install -m 755 $(program) $(DESTDIR)$(PREFIX)/bin &&) true
	for page in $(MAN_PAGES); do \
	    section=$(DESTDIR)$(PREFIX)/share/man/man$${page##*.}; \
	    install -d $$section && install -m 644 $$page $$section || exit 1; \
	    for name in $$(sed -n '/^.SH NAME/{n;s/ \\-.*//;s/,//g;p}' $$page); do \
	        [ -e $$section/$$name.$${page##*.} ] || \
	            echo ".so man$${page##*.}/$${page##*/}" > $$section/$$name.$${page##*.} || exit 1; \
	    done; \
	done
	install -m 755 $(NCCL_NET) $(DESTDIR)$(LIBDIR)
	$(foreach library,$(TRANSPORTS),install -D -m 755 $(library) $(DESTDIR)$(LIBDIR)/$(library:$(BUILD)/lib/%=%) &&) true
	$(foreach library,$(MPI_LIBRARIES) $(OMPI_COLL),install -D -m 755 $(library) $(DESTDIR)$(LIBDIR)/weft/$(library:$(BUILD)/lib/%=%) &&) true
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	for program in weft-perf weft-plan weft-topo weft-net-test; do \
	    install -m 644 docs/completion.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/$$program || exit 1; \
	done
	$(refresh_linker)

# What install would put there now, by doing so in an empty place.
uninstall:
	place=$$(mktemp -d) && $(MAKE) --no-print-directory install DESTDIR=$$place >/dev/null && \
	    (cd $$place && find . ! -type d) | while read -r file; do rm -f "$(DESTDIR)/$$file"; done; \
	    code=$$?; rm -rf "$$place"; exit $$code
	for folder in $(LIBDIR)/weft/openmpi $(LIBDIR)/weft/mpich $(LIBDIR)/weft $(PREFIX)/include/weft; do \
	    [ ! -d $(DESTDIR)$$folder ] || rmdir --ignore-fail-on-non-empty $(DESTDIR)$$folder; \
	done
	$(refresh_linker)

clean:
	rm -rf $(BUILD)

.PHONY: all programs python mpi ompi-coll ompi-coll-if-there pytorch torchcomms pytorch-if-there tests fuzzers help deps deps-run deps-full run test test-full test-all check-style install uninstall clean FORCE
.PHONY: deps-compare compare compare-programs compare-passed compare-torch
.SECONDARY:
.DELETE_ON_ERROR:
ALL_OBJ := $(LIB_OBJ) $(UCX_SRC:%.c=$(BUILD)/obj/%.o) $(call object,$(PERF_SRC) $(wildcard perf/compare/*.c) $(TOOL_SRC) $(NCCL_NET_SRC) $(TEST_SRC) $(SUPPORT_SRC) $(FUZZ_SRC))
-include $(ALL_OBJ:.o=.d) $(foreach m,openmpi mpich,$(MPI_SRC:%.c=$(BUILD)/obj/$(m)/%.d)) $(OMPI_COLL_OBJ:.o=.d)

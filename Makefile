# Weft's build. Everything lands in $(BUILD); see README.md for the targets.
BUILD ?= build
CC ?= gcc
CFLAGS ?= -O3 -g
WARN := -Wall -Wextra -Wshadow -Wvla -Werror
ALL_CFLAGS := -std=gnu11 -fPIC -fvisibility=hidden -pthread $(WARN) -Iinclude -Isrc $(CFLAGS)
LIBS := -pthread -ldl -lm

LIB_SRC := $(sort $(wildcard src/*/*.c src/*/*/*.c))
LIB_OBJ := $(LIB_SRC:%.c=$(BUILD)/obj/%.o)
PROGRAMS := $(patsubst perf/%.c,$(BUILD)/bin/%,$(wildcard perf/weft-*.c)) $(patsubst tools/%.c,$(BUILD)/bin/%,$(wildcard tools/weft-*.c))
UNIT_TESTS := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/unit/test_*.c tests/property/test_*.c tests/conformance/test_*.c))

all: $(BUILD)/lib/libweft.a $(PROGRAMS)
tests: $(UNIT_TESTS)

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -MMD -MP -c $< -o $@
$(BUILD)/lib/libweft.a: $(LIB_OBJ)
	@mkdir -p $(@D)
	rm -f $@ && ar rcs $@ $(LIB_OBJ)
$(BUILD)/bin/%: $(BUILD)/obj/perf/%.o $(BUILD)/lib/libweft.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $^ -o $@ $(LIBS)
$(BUILD)/bin/%: $(BUILD)/obj/tools/%.o $(BUILD)/lib/libweft.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $^ -o $@ $(LIBS)
$(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(BUILD)/lib/libweft.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $^ -o $@ -lcmocka $(LIBS)
clean:
	rm -rf $(BUILD)
.PHONY: all tests clean
-include $(LIB_OBJ:.o=.d)

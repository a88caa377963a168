/* The measured table and the setting that forces algorithms: any text gives rows and choices in range, or an error. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "collectives/tune.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void parse_table(const uint8_t *data, size_t bytes)
{
    static weft_tuned rows[WEFT_TUNED_MAX];
    char path[64];
    int count = -1, fd = memfd_create("fuzz_tune", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, bytes) != (ssize_t)bytes) {
        if (fd >= 0)
            close(fd);
        return;
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (weft_tune_read(path, rows, &count) == WEFT_OK ? count < 0 || count > WEFT_TUNED_MAX : !*weft_last_error())
        abort();
    for (int i = 0; i < count; i++)
        if (rows[i].algorithm >= WEFT_ALGORITHM_COUNT || rows[i].collective >= WEFT_COLLECTIVE_COUNT || rows[i].ranks < 1)
            abort();
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    char text[256];
    uint8_t forced[WEFT_COLLECTIVE_COUNT];
    size_t used = bytes < sizeof text ? bytes : sizeof text - 1;
    memcpy(text, data, used);
    text[used] = 0;
    if (weft_tuner_parse_forced(text, forced) == WEFT_OK) {
        for (int c = 0; c < WEFT_COLLECTIVE_COUNT; c++)
            if (forced[c] >= WEFT_ALGORITHM_COUNT)
                abort();
    } else if (!*weft_last_error()) {
        abort();
    }
    parse_table(data, bytes);
    return 0;
}

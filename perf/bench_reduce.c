/* Speed of the reduction kernels: GB/s of plain C and of the set that this processor gets, for every type
 * and operation, beside memcpy. Bytes are those that are read and written. Arguments: [BYTES] [SOURCES]
 * [TYPE] [OP]. */
#include "collectives/reduce_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/settings.h"

enum { MAX_SOURCES = 8 };

typedef struct bench {
    size_t bytes; /* of each buffer */
    unsigned sources;
    unsigned char *buffers[MAX_SOURCES + 1]; /* the last is dst */
} bench;

/* The best of several batches of about 2 ms each: on a shared machine the others tell of the neighbours. */
static double best_seconds(const bench *b, weft_reduce_kernel kernel, size_t count)
{
    const void *const *sources = (const void *const *)b->buffers;
    double best = 1e9;
    long repeat = 1;
    for (int batch = 0; batch < 12; batch++) {
        int64_t start = weft_now_ns();
        for (long i = 0; i < repeat; i++)
            kernel(b->buffers[MAX_SOURCES], sources, b->sources, count);
        double seconds = (double)(weft_now_ns() - start) * 1e-9;
        if (batch > 0 && seconds / (double)repeat < best)
            best = seconds / (double)repeat;
        if (batch == 0)
            repeat = 1 + (long)(0.002 / (seconds + 1e-9));
    }
    return best;
}

static double gigabytes(const bench *b, unsigned sources, double seconds)
{
    return (double)b->bytes * (sources + 1) / seconds * 1e-9;
}

static void copy_kernel(void *dst, const void *const *sources, unsigned n, size_t count)
{
    (void)n;
    memcpy(dst, sources[0], count);
}

static void weft_copy_kernel(void *dst, const void *const *sources, unsigned n, size_t count)
{
    (void)n;
    weft_copy(dst, sources[0], count);
}

static void print_row(const bench *b, weft_type type, weft_builtin_op op)
{
    weft_reduce_kernel plain = weft_reduce_kernel_plain(type, op);
    weft_reduce_kernel best = weft_reduce_kernel_best(type, op);
    if (!plain)
        return;
    size_t count = b->bytes / weft_type_bytes(type);
    double with_plain = gigabytes(b, b->sources, best_seconds(b, plain, count));
    double with_best = gigabytes(b, b->sources, best_seconds(b, best, count));
    printf("%-8s %-5s %10.2f %10.2f %8.2fx\n", weft_type_name(type), weft_op_name((weft_op)op), with_plain,
           with_best, with_best / with_plain);
}

static weft_status parse_arguments(int argc, char **argv, bench *b, int *type, int *op)
{
    int64_t bytes = 256 << 10;
    int64_t sources = 2;
    weft_type only_type;
    weft_status status = WEFT_OK;
    *type = *op = -1;
    if (argc > 1)
        status = weft_parse_bytes(argv[1], &bytes);
    if (status == WEFT_OK && argc > 2)
        status = weft_parse_int(argv[2], 1, MAX_SOURCES, &sources);
    if (status == WEFT_OK && argc > 3) {
        status = weft_type_parse(argv[3], &only_type);
        *type = (int)only_type;
    }
    if (status == WEFT_OK && argc > 4)
        status = weft_op_parse(argv[4], op);
    b->bytes = (size_t)bytes;
    b->sources = (unsigned)sources;
    return status;
}

int main(int argc, char **argv)
{
    bench b = { 0 };
    int only_type, only_op;
    if (parse_arguments(argc, argv, &b, &only_type, &only_op) != WEFT_OK) {
        fprintf(stderr, "bench_reduce: %s\nusage: bench_reduce [BYTES [SOURCES [TYPE [OP]]]]\n",
                weft_last_error());
        return 2;
    }
    for (unsigned i = 0; i <= MAX_SOURCES; i++) {
        b.buffers[i] = weft_alloc_aligned(4096, b.bytes + 1);
        if (!b.buffers[i]) {
            fprintf(stderr, "bench_reduce: no memory for buffers of %zu bytes\n", b.bytes);
            return 1;
        }
        /* 1.0 or something near in most types: no denormals, no NaN. */
        memset(b.buffers[i], 0x3c, b.bytes);
    }
    printf("# %zu bytes per buffer, %u sources, instruction set %s; GB/s read and written\n", b.bytes,
           b.sources, weft_reduce_isa());
    printf("memcpy %.2f, weft_copy %.2f\n", gigabytes(&b, 1, best_seconds(&b, copy_kernel, b.bytes)),
           gigabytes(&b, 1, best_seconds(&b, weft_copy_kernel, b.bytes)));
    printf("%-8s %-5s %10s %10s %9s\n", "type", "op", "plain", "best", "ratio");
    for (int type = 0; type < WEFT_TYPE_COUNT; type++)
        for (int op = 0; op < WEFT_OP_COUNT; op++)
            if ((only_type < 0 || type == only_type) && (only_op < 0 || op == only_op) && op != WEFT_AVG)
                print_row(&b, (weft_type)type, (weft_builtin_op)op);
    for (unsigned i = 0; i <= MAX_SOURCES; i++)
        weft_free(b.buffers[i]);
    return 0;
}

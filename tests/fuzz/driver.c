/* Drives a fuzz target where libFuzzer is not there: replays its corpus, then mutates what is in it at random for some
 * seconds. Takes these of libFuzzer's arguments: -max_total_time=SECONDS -seed=N -artifact_prefix=PREFIX DIRECTORY...
 * (the corpora). A crash leaves its input in PREFIXcrash-input. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
/* Optional, as for libFuzzer: told the arguments before the first input. */
__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv);

enum { INPUT_MAX = 4096, CORPUS_MAX = 256 };

static uint8_t corpus[CORPUS_MAX][INPUT_MAX];
static size_t corpus_bytes[CORPUS_MAX];
static size_t corpus_count;
static uint8_t input[INPUT_MAX];
static size_t input_bytes;
static uint64_t random_state = 1;
static char crash_path[512] = "crash-input";

/* xorshift64* (Vigna, 2016): the same inputs for the same seed. */
static uint64_t next_random(void)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * 0x2545f4914f6cdd1du;
}

static size_t below(size_t limit)
{
    return limit ? (size_t)(next_random() % limit) : 0;
}

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Only calls that are safe in a signal handler. */
static void save_input(int signal_number)
{
    static const char message[] = "\nfuzz driver: the target crashed; its input is in the file named crash-input\n";
    int fd = open(crash_path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0 || write(fd, input, input_bytes) < 0 || write(STDERR_FILENO, message, sizeof message - 1) < 0)
        _exit(2);
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

/* Runs on an exact copy, so that a sanitizer sees every byte read beyond the end. */
static void run_input(void)
{
    uint8_t *copy = malloc(input_bytes ? input_bytes : 1);
    if (!copy)
        exit(2);
    memcpy(copy, input, input_bytes);
    LLVMFuzzerTestOneInput(copy, input_bytes);
    free(copy);
}

static void mutate_once(void)
{
    static const uint8_t odd[] = {0, 1, 0x7f, 0x80, 0xff, '\n', '-', '9', '"', '<'};
    size_t at = below(input_bytes);
    switch (below(7)) {
    case 0: /* flip a bit */
        if (input_bytes)
            input[at] ^= (uint8_t)(1u << below(8));
        break;
    case 1: /* a byte at random */
        if (input_bytes)
            input[at] = (uint8_t)next_random();
        break;
    case 2: /* a byte that often matters */
        if (input_bytes)
            input[at] = odd[below(sizeof odd)];
        break;
    case 3: /* insert */
        if (input_bytes < INPUT_MAX) {
            memmove(input + at + 1, input + at, input_bytes - at);
            input[at] = odd[below(sizeof odd)];
            input_bytes++;
        }
        break;
    case 4: { /* remove some */
        size_t count = below(input_bytes - at) + 1;
        if (input_bytes) {
            memmove(input + at, input + at + count, input_bytes - at - count);
            input_bytes -= count;
        }
        break;
    }
    case 5: /* cut */
        input_bytes = at;
        break;
    case 6: { /* a piece of another input */
        size_t other = below(corpus_count), from = below(corpus_bytes[other]);
        size_t count = below(corpus_bytes[other] - from + 1);
        if (at + count > INPUT_MAX)
            count = INPUT_MAX - at;
        memcpy(input + at, corpus[other] + from, count);
        if (at + count > input_bytes)
            input_bytes = at + count;
        break;
    }
    }
}

static void add_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        exit(2);
    }
    corpus_bytes[corpus_count] = fread(corpus[corpus_count], 1, INPUT_MAX, file);
    corpus_count++;
    fclose(file);
}

static void add_directory(const char *path)
{
    DIR *directory = opendir(path);
    if (!directory) {
        perror(path);
        exit(2);
    }
    struct dirent *entry;
    while ((entry = readdir(directory)) && corpus_count < CORPUS_MAX) {
        char name[1024];
        int n = snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        if (entry->d_name[0] != '.' && n > 0 && (size_t)n < sizeof name)
            add_file(name);
    }
    closedir(directory);
}

static unsigned long replay_corpus(void)
{
    for (size_t i = 0; i < corpus_count; i++) {
        input_bytes = corpus_bytes[i];
        memcpy(input, corpus[i], input_bytes);
        run_input();
    }
    return corpus_count;
}

static unsigned long mutate_for(double seconds)
{
    unsigned long runs = 0;
    for (double end = seconds_now() + seconds; seconds_now() < end; runs++) {
        size_t base = below(corpus_count);
        input_bytes = corpus_bytes[base];
        memcpy(input, corpus[base], input_bytes);
        for (size_t n = below(8) + 1; n > 0; n--)
            mutate_once();
        run_input();
        /* Without coverage to go by, now and then a mutant takes a place and is built upon. */
        if (corpus_count < CORPUS_MAX && below(1000) == 0) {
            corpus_bytes[corpus_count] = input_bytes;
            memcpy(corpus[corpus_count++], input, input_bytes);
        }
    }
    return runs;
}

int main(int argc, char **argv)
{
    double seconds = 1;
    if (LLVMFuzzerInitialize)
        LLVMFuzzerInitialize(&argc, &argv);
    corpus_count = 1; /* the empty input */
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "-max_total_time=", 16) == 0)
            seconds = strtod(argv[i] + 16, NULL);
        else if (strncmp(argv[i], "-seed=", 6) == 0)
            random_state = strtoull(argv[i] + 6, NULL, 10) | 1;
        else if (strncmp(argv[i], "-artifact_prefix=", 17) == 0)
            snprintf(crash_path, sizeof crash_path, "%scrash-input", argv[i] + 17);
        else if (argv[i][0] != '-')
            add_directory(argv[i]);
    }
    signal(SIGSEGV, save_input);
    signal(SIGBUS, save_input);
    signal(SIGABRT, save_input);
    signal(SIGFPE, save_input);
    unsigned long runs = replay_corpus() + mutate_for(seconds);
    printf("%lu inputs\n", runs);
    return 0;
}

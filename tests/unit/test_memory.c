/* Memory that ranks of a host read in place: allocating, registering what the caller has, finding, giving
 * back. */
#define _GNU_SOURCE
#include "local_group.h"

#include <dirent.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "transport/memory.h"

static size_t page;

static int open_descriptors(void)
{
    int count = 0;
    DIR *d = opendir("/proc/self/fd");
    while (d && readdir(d))
        count++;
    if (d)
        closedir(d);
    return count;
}

static unsigned char *private_pages(size_t bytes)
{
    unsigned char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(p, MAP_FAILED);
    return p;
}

static void fill(unsigned char *p, size_t bytes, unsigned seed)
{
    for (size_t i = 0; i < bytes; i++)
        p[i] = (unsigned char)((i * 31 + seed) >> 3);
}

static bool filled(const unsigned char *p, size_t bytes, unsigned seed)
{
    for (size_t i = 0; i < bytes; i++)
        if (p[i] != (unsigned char)((i * 31 + seed) >> 3))
            return false;
    return true;
}

/* What another process would see there. */
static bool seen_through(const weft_memory_place *place, const unsigned char *expected, size_t bytes)
{
    unsigned char *map = mmap(NULL, place->memory_bytes, PROT_READ, MAP_SHARED, place->fd, 0);
    assert_ptr_not_equal(map, MAP_FAILED);
    bool same = memcmp(map + place->offset, expected, bytes) == 0;
    munmap(map, place->memory_bytes);
    return same;
}

static void test_allocated_memory_is_found_zeroed_and_freed(void **state)
{
    (void)state;
    const size_t sizes[] = {0, 1, 4096, 4097, 1 << 20, (5 << 20) + 3};
    int before = open_descriptors();
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        void *memory = NULL;
        weft_memory_place place, inner;
        assert_int_equal(weft_mem_alloc(sizes[i], &memory), WEFT_OK);
        assert_int_equal((uintptr_t)memory % page, 0);
        unsigned char *p = memory;
        for (size_t at = 0; at < sizes[i]; at++)
            assert_int_equal(p[at], 0);
        fill(p, sizes[i], (unsigned)i);
        assert_true(weft_memory_find(p, sizes[i], &place));
        assert_int_equal(place.offset, 0);
        assert_true(seen_through(&place, p, sizes[i]));
        if (sizes[i] > 1000) {
            assert_true(weft_memory_find(p + 700, 300, &inner));
            assert_int_equal(inner.offset, 700);
            assert_int_equal(inner.memory_id, place.memory_id);
        }
        assert_false(weft_memory_find(p, sizes[i] + page + 1, &inner));
        assert_false(weft_memory_find(p - 1, 1, &inner));
        assert_int_equal(weft_mem_free(memory), WEFT_OK);
        assert_false(weft_memory_find(p, 1, &inner));
    }
    assert_int_equal(open_descriptors(), before);
}

static void test_many_are_told_apart(void **state)
{
    (void)state;
    enum { COUNT = 100 };
    void *memory[COUNT];
    weft_memory_place place[COUNT], found;
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(weft_mem_alloc((size_t)(i + 1) * 500, &memory[i]), WEFT_OK);
        assert_true(weft_memory_find(memory[i], 1, &place[i]));
    }
    for (int i = 0; i < COUNT; i++) {
        assert_true(weft_memory_find((char *)memory[i] + (i + 1) * 500 - 1, 1, &found));
        assert_int_equal(found.memory_id, place[i].memory_id);
        for (int j = 0; j < i; j++)
            assert_true(place[i].memory_id != place[j].memory_id);
    }
    for (int i = 0; i < COUNT; i += 2)
        assert_int_equal(weft_mem_free(memory[i]), WEFT_OK);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(weft_memory_find(memory[i], 1, &found), i % 2);
    for (int i = 1; i < COUNT; i += 2)
        assert_int_equal(weft_mem_free(memory[i]), WEFT_OK);
}

static void test_wrong_pointers_are_refused(void **state)
{
    (void)state;
    int local = 0;
    void *memory = NULL;
    assert_int_equal(weft_mem_free(NULL), WEFT_OK);
    assert_int_equal(weft_mem_free(&local), WEFT_ERR_INVALID);
    assert_int_equal(weft_mem_deregister(&local), WEFT_ERR_INVALID);
    assert_int_equal(weft_mem_deregister(NULL), WEFT_ERR_INVALID);
    assert_int_equal(weft_mem_alloc(1, NULL), WEFT_ERR_INVALID);
    assert_int_equal(weft_mem_alloc(SIZE_MAX, &memory), WEFT_ERR_MEMORY);
    assert_int_equal(weft_mem_alloc((size_t)1 << 62, &memory), WEFT_ERR_MEMORY);
    assert_int_equal(weft_mem_register(NULL, 100), WEFT_ERR_INVALID);
    assert_int_equal(weft_mem_register(&local, 0), WEFT_ERR_INVALID);
    assert_int_equal(weft_mem_register(&local, SIZE_MAX), WEFT_ERR_INVALID);
    assert_null(memory);
    assert_int_equal(weft_mem_alloc(5000, &memory), WEFT_OK);
    assert_int_equal(weft_mem_free((char *)memory + 1), WEFT_ERR_INVALID);
    assert_int_equal(weft_mem_deregister(memory), WEFT_ERR_INVALID);
    assert_int_equal(weft_mem_register(memory, 5000), WEFT_ERR_INVALID);
    assert_int_equal(weft_mem_free(memory), WEFT_OK);
    assert_int_equal(weft_mem_free(memory), WEFT_ERR_INVALID);
}

static void check_registered(unsigned char *p, size_t from, size_t bytes)
{
    weft_memory_place place;
    uintptr_t start = weft_round_up((uintptr_t)p + from, page),
              end = ((uintptr_t)p + from + bytes) / page * page;
    assert_true(weft_memory_find((void *)start, end - start, &place));
    assert_true(seen_through(&place, (void *)start, end - start));
    assert_false(weft_memory_find((void *)start, end - start + 1, &place));
    assert_false(weft_memory_find((char *)start - 1, 2, &place));
    /* It is one memory for both: a store here is seen there. */
    *(unsigned char *)start ^= 0xff;
    assert_true(weft_memory_find((void *)start, 1, &place) && seen_through(&place, (void *)start, 1));
    *(unsigned char *)start ^= 0xff;
}

static void test_registered_memory_keeps_its_contents(void **state)
{
    (void)state;
    const struct {
        size_t pages, from, cut;
    } cases[] = {{1, 0, 0}, {3, 0, 0}, {5, 100, 7}, {5, 0, 1}, {1200, 4095, 4095}};
    int before = open_descriptors();
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        size_t bytes = cases[i].pages * page, length = bytes - cases[i].from - cases[i].cut;
        unsigned char *p = private_pages(bytes);
        fill(p, bytes, (unsigned)i);
        for (unsigned twice = 0; twice < 2; twice++) {
            assert_int_equal(weft_mem_register(p + cases[i].from, length), WEFT_OK);
            assert_true(filled(p, bytes, (unsigned)i + twice));
            check_registered(p, cases[i].from, length);
            fill(p, bytes, (unsigned)i + twice + 1);
            check_registered(p, cases[i].from, length);
            assert_int_equal(weft_mem_free(p + cases[i].from), WEFT_ERR_INVALID);
            assert_int_equal(weft_mem_deregister(p + cases[i].from), WEFT_OK);
            assert_true(filled(p, bytes, (unsigned)i + twice + 1));
            weft_memory_place place;
            assert_false(weft_memory_find(p + page, 1, &place));
            assert_int_equal(weft_mem_deregister(p + cases[i].from), WEFT_ERR_INVALID);
        }
        munmap(p, bytes);
    }
    assert_int_equal(open_descriptors(), before);
}

static void test_memory_of_malloc_can_be_registered(void **state)
{
    (void)state;
    const size_t sizes[] = {20000, 1 << 20, 8 << 20}; /* from the heap and from mmap */
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        unsigned char *p = malloc(sizes[i]);
        fill(p, sizes[i], 5);
        assert_int_equal(weft_mem_register(p, sizes[i]), WEFT_OK);
        check_registered(p, 0, sizes[i]);
        assert_int_equal(weft_mem_deregister(p), WEFT_OK);
        assert_true(filled(p, sizes[i], 5));
        p = realloc(p, sizes[i] * 2);
        assert_true(filled(p, sizes[i], 5));
        free(p);
    }
}

static void test_overlapping_registrations_are_refused(void **state)
{
    (void)state;
    unsigned char *p = private_pages(8 * page);
    assert_int_equal(weft_mem_register(p + 2 * page, 3 * page), WEFT_OK);
    assert_int_equal(weft_mem_register(p + 2 * page, 3 * page), WEFT_ERR_INVALID);
    assert_int_equal(weft_mem_register(p, 3 * page), WEFT_ERR_INVALID);
    assert_int_equal(weft_mem_register(p + 4 * page, 3 * page), WEFT_ERR_INVALID);
    assert_int_equal(weft_mem_register(p, 8 * page), WEFT_ERR_INVALID);
    assert_int_equal(weft_mem_register(p + 3 * page, page), WEFT_ERR_INVALID);
    /* Neighbours are fine, also where they share the page between them, which stays private. */
    assert_int_equal(weft_mem_register(p, 2 * page), WEFT_OK);
    assert_int_equal(weft_mem_register(p + 5 * page, page + 10), WEFT_OK);
    assert_int_equal(weft_mem_register(p + 6 * page + 10, 2 * page - 10), WEFT_OK);
    weft_memory_place place;
    assert_false(weft_memory_find(p + 6 * page, 1, &place));
    assert_true(weft_memory_find(p + 7 * page, page, &place));
    assert_false(weft_memory_find(p, 3 * page, &place)); /* two memories */
    assert_int_equal(weft_mem_deregister(p), WEFT_OK);
    assert_int_equal(weft_mem_deregister(p + 2 * page), WEFT_OK);
    assert_int_equal(weft_mem_deregister(p + 5 * page), WEFT_OK);
    assert_int_equal(weft_mem_deregister(p + 6 * page + 10), WEFT_OK);
    munmap(p, 8 * page);
}

/* Refused, and still what it was. */
static void expect_unsupported(unsigned char *p, size_t bytes, const char *why)
{
    int before = open_descriptors();
    assert_int_equal(weft_mem_register(p, bytes), WEFT_ERR_UNSUPPORTED);
    if (!strstr(weft_last_error(), why))
        fail_msg("\"%s\" does not say \"%s\"", weft_last_error(), why);
    assert_int_equal(open_descriptors(), before);
    weft_memory_place place;
    assert_false(weft_memory_find(p, 1, &place));
    assert_int_equal(weft_mem_deregister(p), WEFT_ERR_INVALID);
}

static void test_what_cannot_be_registered(void **state)
{
    (void)state;
    unsigned char *p = private_pages(6 * page);
    fill(p, 6 * page, 9);
    expect_unsupported(p + 1, 2 * page - 2, "no whole page");
    assert_int_equal(mprotect(p + 2 * page, page, PROT_READ), 0);
    expect_unsupported(p, 4 * page, "not all of it is private");
    assert_int_equal(mprotect(p + 2 * page, page, PROT_READ | PROT_WRITE), 0);
    if (syscall(SYS_mlock, p + page, page) == 0) { /* the sanitizers make mlock() do nothing */
        expect_unsupported(p, 4 * page, "locked");
        syscall(SYS_munlock, p + page, page);
    }
    assert_true(filled(p, 6 * page, 9));
    assert_int_equal(weft_mem_register(p, 6 * page), WEFT_OK);
    assert_int_equal(weft_mem_deregister(p), WEFT_OK);
    munmap(p + 3 * page, page);
    expect_unsupported(p, 6 * page, "not all of it is mapped");
    expect_unsupported(p + 2 * page, 2 * page, "not all of it is mapped");
    munmap(p, 3 * page);
    munmap(p + 4 * page, 2 * page);
    unsigned char *shared = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    expect_unsupported(shared, page, "private");
    munmap(shared, page);
    FILE *f = fopen("/proc/self/exe", "r");
    unsigned char *file = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE, fileno(f), 0);
    fclose(f);
    assert_ptr_not_equal(file, MAP_FAILED);
    expect_unsupported(file, page, "file");
    munmap(file, page);
#if !defined(__SANITIZE_ADDRESS__)
    unsigned char stack[16384];
    stack[0] = 1;
    expect_unsupported(stack, sizeof(stack), "stack");
#endif
}

/* ---- failures on the way ---- */

static void try_all(unsigned char *p, size_t bytes, weft_status expected)
{
    void *memory = NULL;
    assert_int_equal(weft_mem_alloc(bytes, &memory), expected);
    assert_null(memory);
    assert_int_equal(weft_mem_register(p, bytes), expected);
    assert_true(filled(p, bytes, 3));
}

static void test_failing_allocations(void **state)
{
    (void)state;
    int before = open_descriptors();
    unsigned char *p = private_pages(4 * page);
    fill(p, 4 * page, 3);
    for (int n = 1; n <= 2; n++) { /* the entry, the table */
        weft_alloc_fail_at(n, true);
        try_all(p, 4 * page, WEFT_ERR_MEMORY);
        weft_alloc_fail_at(0, false);
        assert_int_equal(open_descriptors(), before);
    }
    munmap(p, 4 * page);
}

/* In a child of its own, for limits are for ever. */
static void run_limited(int resource, rlim_t limit, void (*body)(void))
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit l = {limit, limit};
        if (setrlimit((__rlimit_resource_t)resource, &l) != 0)
            _exit(2);
        body();
        _exit(0);
    }
    int status = 1;
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
}

static void child_without_descriptors(void)
{
    unsigned char *p = private_pages(4 * page);
    fill(p, 4 * page, 3);
    void *memory = NULL;
    if (weft_mem_alloc(page, &memory) != WEFT_ERR_SYSTEM || weft_mem_register(p, 4 * page) == WEFT_OK ||
        !filled(p, 4 * page, 3))
        _exit(1);
}

static void child_with_small_files(void)
{
    unsigned char *p = private_pages(64 * page);
    fill(p, 64 * page, 3);
    void *memory = NULL;
    if (weft_mem_alloc(64 * page, &memory) != WEFT_ERR_UNSUPPORTED ||
        weft_mem_register(p, 64 * page) != WEFT_ERR_UNSUPPORTED || !filled(p, 64 * page, 3))
        _exit(1);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
static void child_with_small_address_space(void)
{
    struct rlimit l = {128 << 20, 128 << 20};
    unsigned char *p = private_pages(64 << 20);
    fill(p, 64 << 20, 3);
    if (setrlimit(RLIMIT_AS, &l) != 0)
        _exit(2);
    void *memory = NULL;
    if (weft_mem_alloc(100 << 20, &memory) != WEFT_ERR_MEMORY ||
        weft_mem_register(p, 64 << 20) != WEFT_ERR_MEMORY || !filled(p, 64 << 20, 3))
        _exit(1);
    if (weft_mem_register(p, 4 * page) != WEFT_OK || !filled(p, 64 << 20, 3)) /* less does fit */
        _exit(3);
}

/* Deregistering needs room for the private copy: without it the memory stays registered and whole. */
static void child_that_cannot_deregister(void)
{
    unsigned char *p = private_pages(64 << 20);
    fill(p, 64 << 20, 3);
    if (weft_mem_register(p, 64 << 20) != WEFT_OK)
        _exit(1);
    struct rlimit l = {80 << 20, 512 << 20};
    weft_memory_place place;
    if (setrlimit(RLIMIT_AS, &l) != 0)
        _exit(2);
    if (weft_mem_deregister(p) != WEFT_ERR_MEMORY || !filled(p, 64 << 20, 3) ||
        !weft_memory_find(p, 64 << 20, &place))
        _exit(3);
    l.rlim_cur = l.rlim_max;
    if (setrlimit(RLIMIT_AS, &l) != 0 || weft_mem_deregister(p) != WEFT_OK || !filled(p, 64 << 20, 3))
        _exit(4);
}
#endif

static void test_failures_leave_the_memory_as_it_was(void **state)
{
    (void)state;
    run_limited(RLIMIT_NOFILE, 3, child_without_descriptors);
    run_limited(RLIMIT_FSIZE, 16 * page, child_with_small_files);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    run_limited(RLIMIT_AS, (rlim_t)1 << 40, child_with_small_address_space);
    run_limited(RLIMIT_AS, 512 << 20, child_that_cannot_deregister);
#endif
}

/* ---- ranks that are threads, and forks ---- */

static void test_held_memory_outlives_its_free(void **state)
{
    (void)state;
    int before = open_descriptors();
    void *memory = NULL;
    weft_memory_place place;
    assert_int_equal(weft_mem_alloc(page, &memory), WEFT_OK);
    assert_true(weft_memory_find(memory, 1, &place));
    assert_null(weft_memory_hold(place.memory_id ^ 1));
    assert_ptr_equal(weft_memory_hold(place.memory_id), memory);
    assert_ptr_equal(weft_memory_hold(place.memory_id), memory);
    *(int *)memory = 42;
    assert_int_equal(weft_mem_free(memory), WEFT_OK);
    assert_false(weft_memory_find(memory, 1, &place));
    assert_null(weft_memory_hold(place.memory_id));
    weft_memory_release(place.memory_id);
    assert_int_equal(*(int *)memory, 42);
    weft_memory_release(place.memory_id);
    weft_memory_release(place.memory_id);
    assert_int_equal(open_descriptors(), before);
}

static void test_hold_of_registered_memory_counts_from_offset_0(void **state)
{
    (void)state;
    unsigned char *p = private_pages(3 * page);
    weft_memory_place place;
    assert_int_equal(weft_mem_register(p + 10, 3 * page - 10), WEFT_OK);
    assert_true(weft_memory_find(p + page + 77, 5, &place));
    char *origin = weft_memory_hold(place.memory_id);
    assert_ptr_equal(origin + place.offset, p + page + 77);
    weft_memory_release(place.memory_id);
    assert_int_equal(weft_mem_deregister(p + 10), WEFT_OK);
    munmap(p, 3 * page);
}

static void *churn(void *failed)
{
    for (int i = 0; i < 300; i++) {
        void *memory = NULL;
        weft_memory_place place;
        unsigned char *p = private_pages(2 * page);
        bool right = weft_mem_alloc(100, &memory) == WEFT_OK && weft_memory_find(memory, 100, &place) &&
                     weft_mem_register(p, 2 * page) == WEFT_OK && weft_memory_find(p + 1, page, &place) &&
                     place.offset % page == 1 && weft_mem_deregister(p) == WEFT_OK &&
                     weft_mem_free(memory) == WEFT_OK;
        if (!right)
            atomic_fetch_add((_Atomic int *)failed, 1);
        munmap(p, 2 * page);
    }
    return NULL;
}

static void test_threads_at_once(void **state)
{
    (void)state;
    pthread_t threads[4];
    _Atomic int failed = 0;
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, churn, &failed), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(failed, 0);
}

static void test_a_forked_child_shares_registered_pages(void **state)
{
    (void)state;
    unsigned char *p = private_pages(page);
    assert_int_equal(weft_mem_register(p, page), WEFT_OK);
    pid_t pid = fork();
    if (pid == 0) {
        p[5] = 77;
        _exit(0);
    }
    waitpid(pid, NULL, 0);
    assert_int_equal(p[5], 77);
    assert_int_equal(weft_mem_deregister(p), WEFT_OK);
    pid = fork();
    if (pid == 0) {
        p[5] = 78;
        _exit(0);
    }
    waitpid(pid, NULL, 0);
    assert_int_equal(p[5], 77);
    munmap(p, page);
}

int main(void)
{
    page = (size_t)sysconf(_SC_PAGESIZE);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_allocated_memory_is_found_zeroed_and_freed),
        cmocka_unit_test(test_many_are_told_apart),
        cmocka_unit_test(test_wrong_pointers_are_refused),
        cmocka_unit_test(test_registered_memory_keeps_its_contents),
        cmocka_unit_test(test_memory_of_malloc_can_be_registered),
        cmocka_unit_test(test_overlapping_registrations_are_refused),
        cmocka_unit_test(test_what_cannot_be_registered),
        cmocka_unit_test(test_failing_allocations),
        cmocka_unit_test(test_failures_leave_the_memory_as_it_was),
        cmocka_unit_test(test_held_memory_outlives_its_free),
        cmocka_unit_test(test_hold_of_registered_memory_counts_from_offset_0),
        cmocka_unit_test(test_threads_at_once),
        cmocka_unit_test(test_a_forked_child_shares_registered_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

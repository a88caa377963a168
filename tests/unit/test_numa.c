/* Memory on the right NUMA node: which policy is asked for where there are two nodes (by calls that are made up), that refusal
 * does no harm, and where the kernel says that pages lie. */
#define _GNU_SOURCE
#include "../checks.h"

#include <errno.h>
#include <stdio.h>
#include <sys/syscall.h>

#include "transport/host.h"
#include "transport/numa.h"

typedef struct call {
    char *address;
    size_t bytes;
    unsigned long mode, mask;
} call;

enum { CALLS = 8, PREFERRED = 1, INTERLEAVE = 3 };
static struct {
    call calls[CALLS];
    int count, mode, error;
    unsigned long allowed;
    unsigned node;
} fake;

static long fake_get(int *mode, unsigned long *mask, unsigned long bits, void *address, unsigned long flags)
{
    (void)bits, (void)address, (void)flags;
    if (mode)
        *mode = fake.mode;
    if (mask)
        *mask = fake.allowed;
    return 0;
}

static long fake_getcpu(unsigned *cpu, unsigned *node)
{
    *cpu = 0;
    *node = fake.node;
    return 0;
}

static long fake_mbind(void *address, unsigned long bytes, unsigned long mode, const unsigned long *mask, unsigned long bits,
                       unsigned flags)
{
    (void)bits, (void)flags;
    if (fake.count < CALLS)
        fake.calls[fake.count++] = (call){ address, bytes, mode, mask[0] };
    errno = fake.error;
    return fake.error ? -1 : 0;
}

static int two_nodes(void **state)
{
    (void)state;
    static const weft_numa_system made_up = { .get_mempolicy = fake_get, .getcpu = fake_getcpu, .mbind = fake_mbind };
    memset(&fake, 0, sizeof fake);
    fake.allowed = 3;
    fake.node = 1;
    weft_numa_injected = &made_up;
    return 0;
}

static int real_again(void **state)
{
    (void)state;
    weft_numa_injected = NULL;
    return 0;
}

static void allocated_memory_is_asked_for_on_the_threads_node(void **state)
{
    (void)state;
    void *memory;
    assert_int_equal(weft_mem_alloc(100000, &memory), WEFT_OK);
    assert_int_equal(fake.count, 1);
    assert_ptr_equal(fake.calls[0].address, memory);
    assert_true(fake.calls[0].bytes >= 100000 && fake.calls[0].bytes < 200000);
    assert_int_equal(fake.calls[0].mode, PREFERRED);
    assert_int_equal(fake.calls[0].mask, 2);
    assert_int_equal(weft_mem_free(memory), WEFT_OK);
}

static weft_status alone(void *context, const void *send, void *recv, size_t bytes)
{
    (void)context;
    memcpy(recv, send, bytes);
    return WEFT_OK;
}

static void each_rank_asks_for_its_own_part_of_a_segment(void **state)
{
    (void)state;
    weft_host *host;
    weft_segment *segment;
    weft_host_config config = { .ranks = 1, .region_bytes = 10000, .deadline_ns = WEFT_NEVER, .allgather = alone };
    assert_int_equal(weft_host_create(&config, &host), WEFT_OK);
    assert_int_equal(fake.count, 1);
    assert_ptr_equal(fake.calls[0].address, weft_host_region(host, 0));
    assert_int_equal(weft_segment_create(host, (int[]){ 0 }, 1, 7, 20000, WEFT_NEVER, &segment), WEFT_OK);
    assert_int_equal(fake.count, 2);
    assert_ptr_equal(fake.calls[1].address, weft_segment_region(segment, 0));
    for (int i = 0; i < 2; i++) {
        assert_int_equal((uintptr_t)fake.calls[i].address % (uintptr_t)sysconf(_SC_PAGESIZE), 0);
        assert_int_equal(fake.calls[i].mask, 2);
    }
    weft_segment_destroy(segment);
    weft_host_destroy(host);
}

static void a_policy_of_the_users_own_stays(void **state)
{
    (void)state;
    void *memory;
    fake.mode = INTERLEAVE;
    assert_int_equal(weft_mem_alloc(4096, &memory), WEFT_OK);
    assert_int_equal(fake.count, 0);
    assert_int_equal(weft_mem_free(memory), WEFT_OK);
}

static void one_node_is_left_alone(void **state)
{
    (void)state;
    void *memory;
    fake.allowed = 1;
    assert_int_equal(weft_mem_alloc(4096, &memory), WEFT_OK);
    assert_int_equal(fake.count, 0);
    assert_int_equal(weft_mem_free(memory), WEFT_OK);
}

static void refusal_does_no_harm(void **state)
{
    (void)state;
    static const int errors[] = { EPERM, ENOSYS, EINVAL };
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        char *memory;
        fake.error = errors[i];
        assert_int_equal(weft_mem_alloc(4096, (void **)&memory), WEFT_OK);
        memory[0] = memory[4095] = 1;
        assert_int_equal(weft_mem_free(memory), WEFT_OK);
    }
    assert_int_equal(fake.count, 3);
}

/* With the real calls: on a machine of one node that one, on others the node of this thread. */
static void pages_lie_where_the_thread_runs(void **state)
{
    (void)state;
    char *memory;
    unsigned cpu, node;
    int where = -1;
    assert_int_equal(weft_mem_alloc(1 << 20, (void **)&memory), WEFT_OK);
    assert_int_equal(syscall(SYS_getcpu, &cpu, &node, NULL), 0);
    memory[0] = 1;
    void *page = memory;
    if (syscall(SYS_move_pages, 0, 1ul, &page, NULL, &where, 0) != 0) {
        print_message("skipped: move_pages: %s\n", strerror(errno));
        assert_int_equal(weft_mem_free(memory), WEFT_OK);
        skip();
    }
    assert_true(where >= 0); /* the page is there */
    unsigned now;
    if (syscall(SYS_getcpu, &cpu, &now, NULL) == 0 && now == node) /* else it was moved meanwhile */
        assert_int_equal(where, node);
    assert_int_equal(weft_mem_free(memory), WEFT_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(allocated_memory_is_asked_for_on_the_threads_node, two_nodes, real_again),
        cmocka_unit_test_setup_teardown(each_rank_asks_for_its_own_part_of_a_segment, two_nodes, real_again),
        cmocka_unit_test_setup_teardown(a_policy_of_the_users_own_stays, two_nodes, real_again),
        cmocka_unit_test_setup_teardown(one_node_is_left_alone, two_nodes, real_again),
        cmocka_unit_test_setup_teardown(refusal_does_no_harm, two_nodes, real_again),
        cmocka_unit_test(pages_lie_where_the_thread_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

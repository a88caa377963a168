/* Ranks for tests of the control plane: threads, or forked processes on a line (a socket pair) to the test. */
#include "support_ranks.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { READY_MS = 30000, NOTICES_MOST = 1024 };

/* Children of a process with threads start threads of their own here, which thread sanitizer dislikes in general. */
__attribute__((visibility("default"))) const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "die_after_fork=0";
}

/* ---- threads ---------------------------------------------------------------------------------------- */

typedef struct rank_thread {
    int rank, size;
    rank_body body;
    const void *context;
    outcome *result;
} rank_thread;

static void *run_thread(void *argument)
{
    rank_thread *t = argument;
    int64_t start = weft_now_ns();
    t->body(t->rank, t->size, t->context, t->result);
    t->result->taken_ns = weft_now_ns() - start;
    return NULL;
}

void ranks_as_threads(int size, rank_body body, const void *context, outcome *results)
{
    pthread_t threads[RANKS_MOST];
    rank_thread ranks[RANKS_MOST];
    assert_true(size <= RANKS_MOST);
    memset(results, 0, (size_t)size * sizeof *results);
    for (int r = 0; r < size; r++) {
        ranks[r] = (rank_thread){ r, size, body, context, &results[r] };
        assert_int_equal(pthread_create(&threads[r], NULL, run_thread, &ranks[r]), 0);
    }
    for (int r = 0; r < size; r++)
        pthread_join(threads[r], NULL);
}

/* ---- processes -------------------------------------------------------------------------------------- */

static int own_line = -1;

void ranks_fork_one(rank_group *group, int rank, int size, rank_body body, const void *context)
{
    int line[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, line), 0);
    fflush(NULL);
    pid_t parent = getpid(), pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        outcome result = { 0 };
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        for (int r = 0; r < group->size; r++) {
            if (group->lines[r] >= 0)
                close(group->lines[r]);
        }
        close(line[0]);
        own_line = line[1];
        int64_t start = weft_now_ns();
        body(rank, size, context, &result);
        result.taken_ns = weft_now_ns() - start;
        ssize_t n = send(own_line, &result, sizeof result, MSG_NOSIGNAL);
        _exit(n == (ssize_t)sizeof result ? 0 : 1);
    }
    close(line[1]);
    group->lines[rank] = line[0];
    group->pids[rank] = pid;
    if (rank >= group->size)
        group->size = rank + 1;
}

void ranks_fork(rank_group *group, int size, rank_body body, const void *context)
{
    memset(group, 0, sizeof *group);
    for (int r = 0; r < RANKS_MOST; r++)
        group->lines[r] = group->pids[r] = -1;
    for (int r = 0; r < size; r++)
        ranks_fork_one(group, r, size, body, context);
}

static bool read_line(int line, void *data, size_t bytes, int timeout_ms)
{
    int64_t deadline = weft_deadline_ns(timeout_ms);
    size_t have = 0;
    while (have < bytes) {
        struct pollfd p = { .fd = line, .events = POLLIN };
        int64_t left = (deadline - weft_now_ns()) / WEFT_NS_PER_MS;
        if (left <= 0 || poll(&p, 1, (int)left) == 0)
            return false;
        ssize_t n = recv(line, (char *)data + have, bytes - have, 0);
        if (n <= 0 && errno != EINTR)
            return false;
        have += n > 0 ? (size_t)n : 0;
    }
    return true;
}

void ranks_await_ready_one(rank_group *group, int rank)
{
    char ready = 0;
    if (!read_line(group->lines[rank], &ready, 1, READY_MS) || ready != 'r') {
        outcome o = { 0 };
        read_line(group->lines[rank], (char *)&o + 1, sizeof o - 1, 100);
        fail_msg("rank %d is not ready: %s", rank, o.text);
    }
}

void ranks_await_ready(rank_group *group)
{
    for (int r = 0; r < group->size; r++)
        ranks_await_ready_one(group, r);
}

void ranks_send_word(rank_group *group, int rank)
{
    assert_int_equal(send(group->lines[rank], "w", 1, MSG_NOSIGNAL), 1);
}

void ranks_send_word_all(rank_group *group)
{
    for (int r = 0; r < group->size; r++) {
        if (group->pids[r] > 0)
            ranks_send_word(group, r);
    }
}

void ranks_kill(rank_group *group, int rank)
{
    kill(group->pids[rank], SIGKILL);
    waitpid(group->pids[rank], NULL, 0);
    group->pids[rank] = -1;
}

bool ranks_outcome(rank_group *group, int rank, int timeout_ms, outcome *result)
{
    return read_line(group->lines[rank], result, sizeof *result, timeout_ms);
}

void ranks_end(rank_group *group)
{
    for (int r = 0; r < group->size; r++) {
        if (group->pids[r] > 0) {
            char byte;
            /* The line ends when it exits. */
            read_line(group->lines[r], &byte, 1, 2000);
            kill(group->pids[r], SIGKILL);
            waitpid(group->pids[r], NULL, 0);
        }
        if (group->lines[r] >= 0)
            close(group->lines[r]);
    }
    group->size = 0;
}

void rank_say_ready(void)
{
    if (send(own_line, "r", 1, MSG_NOSIGNAL) != 1)
        _exit(1);
}

void rank_await_word(void)
{
    char word;
    if (recv(own_line, &word, 1, 0) != 1)
        _exit(1);
}

/* ---- odds and ends ---------------------------------------------------------------------------------- */

static int bind_port(int port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    socklen_t bytes = sizeof address;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    int found = bind(fd, (struct sockaddr *)&address, bytes) == 0 && listen(fd, 1) == 0 &&
                getsockname(fd, (struct sockaddr *)&address, &bytes) == 0 ? ntohs(address.sin_port) : -1;
    close(fd);
    return found;
}

int free_port(int more)
{
    for (int attempt = 0; attempt < 100; attempt++) {
        /* Below the ports that the kernel gives to outgoing connections, which come and go. */
        int port = 10000 + (int)(weft_random64() % 20000), free = 0;
        while (free <= more && bind_port(port + free) > 0)
            free++;
        if (free == more + 1)
            return port;
    }
    fail_msg("no free ports");
    return -1;
}

weft_control_config rank_config(int rank, int size, const char *url, int64_t deadline_ms)
{
    return (weft_control_config){ .rank = rank, .size = size, .kind = WEFT_RENDEZVOUS_URL, .url = url,
                                  .deadline_ns = weft_deadline_ns(deadline_ms), .dead_peer_ms = 10000 };
}

void outcome_fail(outcome *result, weft_status status)
{
    result->status = status;
    snprintf(result->text, sizeof result->text, "%s", weft_last_error());
}

weft_status check_allgather(weft_control *c, size_t bytes)
{
    int rank = weft_control_rank(c), size = weft_control_size(c);
    uint8_t *send = malloc(bytes + 1), *recv = calloc((size_t)size, bytes + 1);
    for (size_t i = 0; i < bytes; i++)
        send[i] = (uint8_t)((size_t)rank * 7 + i * 13);
    weft_status status = weft_control_allgather(c, send, recv, bytes, weft_deadline_ns(20000));
    for (size_t r = 0; status == WEFT_OK && r < (size_t)size; r++) {
        for (size_t i = 0; i < bytes; i++) {
            if (recv[r * bytes + i] != (uint8_t)(r * 7 + i * 13)) {
                status = weft_fail(WEFT_ERR_INTERNAL, "byte %zu of rank %zu is wrong", i, r);
                break;
            }
        }
    }
    free(send);
    free(recv);
    return status;
}

struct notice_box {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int count;
    weft_notice notices[NOTICES_MOST];
};

notice_box *notice_box_create(void)
{
    notice_box *box = calloc(1, sizeof *box);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&box->lock, NULL);
    pthread_cond_init(&box->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    return box;
}

void notice_box_put(void *context, const weft_notice *notice)
{
    notice_box *box = context;
    pthread_mutex_lock(&box->lock);
    if (box->count < NOTICES_MOST)
        box->notices[box->count++] = *notice;
    pthread_cond_broadcast(&box->changed);
    pthread_mutex_unlock(&box->lock);
}

bool notice_box_get(notice_box *box, int n, int timeout_ms, weft_notice *notice)
{
    int64_t deadline = weft_deadline_ns(timeout_ms);
    struct timespec at = { .tv_sec = deadline / 1000000000, .tv_nsec = deadline % 1000000000 };
    pthread_mutex_lock(&box->lock);
    while (box->count <= n && pthread_cond_timedwait(&box->changed, &box->lock, &at) == 0)
        ;
    bool found = box->count > n;
    if (found)
        *notice = box->notices[n];
    pthread_mutex_unlock(&box->lock);
    return found;
}

int notice_box_count(notice_box *box)
{
    pthread_mutex_lock(&box->lock);
    int count = box->count;
    pthread_mutex_unlock(&box->lock);
    return count;
}

void notice_box_free(notice_box *box)
{
    pthread_cond_destroy(&box->changed);
    pthread_mutex_destroy(&box->lock);
    free(box);
}

/* The conformance suite of transports: what include/weft/transport.h promises, tested through the table
 * alone. A test program describes its transport as a subject and runs the suite on it. support_group.c has
 * the instances, the traffic and its checks; support_suite.c the tests.
 */
#ifndef WEFT_CONFORMANCE_H
#define WEFT_CONFORMANCE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <weft/transport.h>

#include "base/base.h"

enum { CONFORMANCE_RANKS_MAX = 16, CONFORMANCE_PATIENCE_MS = 20000 };

typedef weft_status (*conformance_allgather)(void *context, const void *send, void *recv, size_t bytes);

/* What the suite has to know of a transport. */
typedef struct conformance_subject {
    const char *name;                 /* of weft_transport_find */
    /* What config.host is to be, NULL: nothing. Collective: each rank calls it, in a thread or process of its
     * own. */
    weft_status (*host_create)(int rank, int ranks, uint64_t job, conformance_allgather allgather,
                               void *context, void **host);
    void (*host_destroy)(void *host);
    void (*configure)(weft_transport_config *config); /* further settings; may be NULL */
    bool notices_death;               /* reports a peer that was killed by itself */
    int share;                        /* of slow transports: long tests are so many times shorter; 0: they are not */
    const void *settings;             /* the test program's */
} conformance_subject;

/* Where payloads are to land: the sink's answer to `place`. */
typedef enum conformance_place {
    PLACE_MEMORY,
    PLACE_NULL,
    PLACE_MIXED,
    PLACE_ABSENT                      /* the sink has no `place` at all */
} conformance_place;

typedef struct conformance_member conformance_member;
typedef struct conformance_message conformance_message;

/* One rank's view of one peer. */
typedef struct conformance_peer {
    weft_endpoint *endpoint;
    uint64_t next_sent, next_announced; /* numbers of slices */
    uint64_t arrived;
    int failed;                       /* calls of sink.failed */
    weft_status failure;
    char reason[256];
} conformance_peer;

/* One instance and what it saw. */
struct conformance_member {
    const conformance_subject *subject;
    const weft_transport_ops *ops;
    weft_transport *transport;
    void *host;
    int rank, ranks;
    conformance_place place;
    uint64_t arrived, sent, done_ok, done_error;
    uint64_t arrived_bytes;
    weft_status last_error;           /* of a done() */
    conformance_peer peers[CONFORMANCE_RANKS_MAX];
    conformance_message *placed;      /* announced and not complete */
    /* Called at the end of `arrived`; may send. */
    void (*on_arrived)(conformance_member *member, int peer, size_t bytes);
    void *user;
    char wrong[256];                  /* the first broken promise; "": none */
};

/* Several ranks of one job in this process, driven by the calling thread. */
typedef struct conformance_group {
    int ranks;
    conformance_member members[CONFORMANCE_RANKS_MAX];
} conformance_group;

/* Opens instances, tells them each other's addresses, makes all endpoints. WEFT_OK or the first error, the
 * group is closed then. */
weft_status conformance_open(conformance_group *group, const conformance_subject *subject, int ranks,
                             conformance_place place);
/* Destroys the instances and fails the test if a promise was broken. */
void conformance_close(conformance_group *group);
/* The same for one rank in a process of its own; the allgather exchanges the addresses. */
weft_status conformance_member_open(conformance_member *member, const conformance_subject *subject, int rank,
                                    int ranks, uint64_t job, conformance_place place,
                                    conformance_allgather allgather, void *context);
void conformance_member_close(conformance_member *member);

/* Queues a slice with a random payload that the receiver checks. */
weft_status conformance_send(conformance_member *from, int to, size_t bytes);
/* The same with the caller's payload, which must live until the slice is done. */
weft_status conformance_send_from(conformance_member *from, int to, const void *payload, size_t bytes);
/* Progresses all instances until the condition holds; fails the test after a long time. */
void conformance_drive(conformance_group *group);
#define conformance_until(group, condition)                                                        \
    do {                                                                                           \
        int64_t conformance_end = weft_deadline_ns(CONFORMANCE_PATIENCE_MS);                       \
        while (!(condition)) {                                                                     \
            conformance_drive(group);                                                              \
            if (weft_now_ns() > conformance_end)                                                   \
                fail_msg("after %d ms still not: %s", CONFORMANCE_PATIENCE_MS, #condition);        \
        }                                                                                          \
    } while (0)
/* All that was sent has arrived and every done() was called. */
bool conformance_quiet(const conformance_group *group);
/* Random traffic between all ranks: `count` slices from each to each other one of up to `most` bytes. */
void conformance_traffic(conformance_group *group, int count, size_t most);
/* Fails the test if a member saw a broken promise. */
void conformance_check(const conformance_member *member);

/* A second process: runs `child` and exits with what it returns. The parent is rank 0, the child rank 1;
 * `link` is the context of the allgather between the two. */
typedef struct conformance_process {
    int pid;
    int link[2];                      /* socket to the other side, own rank */
} conformance_process;
void conformance_fork(conformance_process *process,
                      int (*child)(const conformance_subject *subject, int *link),
                      const conformance_subject *subject);
weft_status conformance_process_allgather(void *link, const void *send, void *recv, size_t bytes);
/* Waits for its end; its exit status, or -signal. */
int conformance_join(conformance_process *process);

/* Runs the suite; the number of tests that failed. */
int conformance_run(const char *group_name, const conformance_subject *subject);

/* Small reproducible random numbers for tests. */
uint64_t conformance_random(void);

#endif

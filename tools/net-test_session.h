/* weft-net-test's two sides: what they share, how they talk beside the plugin, and how a wait ends. */
#ifndef WEFT_NET_TEST_SESSION_H
#define WEFT_NET_TEST_SESSION_H

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include "net-test_plugin.h"

enum { PLUGINS_MAX = 4 };

typedef struct test_options {
    const char *plugin[PLUGINS_MAX];
    int plugins, version, device, fuse;   /* fuse: how many devices from `device` on; 0: none */
    int connections, rounds, in_flight;
    size_t first_bytes, last_bytes, check_bytes; /* of the measurement; largest message of the checks */
    int factor;
    int timeout_s;
    bool check, speed, kill, verbose;
    const char *netns;                    /* of the sending side: a pid or a path */
    int listen_port;                      /* the receiving side waits here for the sending side on another host */
    char connect_host[256];
    int connect_port;
    char error[256];
} test_options;

typedef enum test_action { TEST_RUN, TEST_HELP, TEST_VERSION, TEST_WRONG } test_action;
test_action test_parse(int argc, char **argv, test_options *options);
void test_help(FILE *stream);

typedef struct session {
    const test_options *options;
    plugin *plugin;                       /* the one of the running case */
    int device;
    nccl_net_properties_v12 properties;
    bool receives;                        /* else this is the sending side */
    int channel;
    const char *what;                     /* the running case */
    bool failed;
    char reason[512];
} session;

/* Records the first reason, tells the other side; returns false. */
bool session_fail(session *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Result of a call of the plugin: true if it is a success. */
bool session_good(session *s, nccl_result result, const char *call);
bool session_give(session *s, const void *data, size_t bytes);
bool session_take(session *s, void *data, size_t bytes);
/* Both sides have come here. */
bool session_meet(session *s);

double now_s(void);
/* For loops that wait for the plugin: false when the time is up or the other side has failed. */
typedef struct waiting {
    double deadline;
    unsigned rounds;
} waiting;
waiting session_wait(const session *s);
bool session_waits(session *s, waiting *w, const char *call);

/* ---- connections ---- */

/* A connection whose data goes to the receiving side, or from it. Nobody blocks: both sides make their calls in turns. */
bool session_connect(session *s, bool to_receiver, void **comm);
bool session_close(session *s, bool to_receiver, void *comm);
/* How many this process has open. */
int session_descriptors(void);

/* ---- a stream of messages in one direction ---- */

typedef struct flow {
    int count;
    size_t (*size_of)(const struct flow *f, int i);
    size_t largest;
    int window;                           /* requests in flight */
    int ahead;                            /* ... of the receiver, 0: as many */
    int group;                            /* receives per request; messages of a group are sent in reverse */
    int pause_us;                         /* of the receiver, before it posts each request */
    bool shuffle;                         /* tests requests in any order, not the oldest only */
    bool check;
    size_t fixed;                         /* for size_of */
    double *took;                         /* if not NULL: the seconds from both sides being ready to the last completion */
} flow;
size_t size_fixed(const flow *f, int i);
bool flow_send(session *s, void *comm, const flow *f);
bool flow_receive(session *s, void *comm, const flow *f);
/* The half that this side has. */
bool flow_run(session *s, void *comm, bool to_receiver, const flow *f);

/* ---- what is run ---- */

bool cases_run(session *s);
bool case_half_made(session *s);
bool case_killed(session *s, bool victim);
/* Measures with one session per plugin. */
bool speed_run(session *sessions, int count);

#endif

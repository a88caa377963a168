/* Connections that are given up before they are made, or with requests under way, as when a job is aborted: each call has to
 * come back, closing has to work and to leave nothing open, and what is made afterwards has to work. */
#include "net-test_session.h"

enum { EARLY_CALLS = 100, REQUESTS = 4, REQUEST_BYTES = 1 << 20, TESTS = 3 };

static bool listen_on(session *s, unsigned char *handle, void **listener)
{
    return session_good(s, plugin_listen(s->plugin, s->device, handle, listener), "listen");
}

static bool close_listener(session *s, void *listener)
{
    return session_good(s, plugin_close_listen(s->plugin, listener), "closeListen of a listener without a connection");
}

/* Nobody connects. */
static bool listen_in_vain(session *s)
{
    for (int calls = 0; calls <= EARLY_CALLS; calls += EARLY_CALLS) {
        unsigned char handle[NCCL_NET_HANDLE_BYTES] = {0};
        void *listener, *comm = NULL;
        if (!listen_on(s, handle, &listener))
            return false;
        for (int i = 0; i < calls; i++) {
            if (!session_good(s, plugin_accept(s->plugin, listener, &comm), "accept"))
                return false;
        }
        if (!close_listener(s, listener))
            return false;
    }
    return true;
}

/* Up to EARLY_CALLS; an error ends it: the other side may have gone. */
static void *connect_for_a_while(session *s, void *handle)
{
    void *comm = NULL;
    for (int i = 0; i < EARLY_CALLS && !comm; i++) {
        if (plugin_connect(s->plugin, s->device, handle, &comm) != NCCL_SUCCESS)
            return NULL;
    }
    return comm;
}

/* The sending side calls connect(), and then not any more, or it goes on after the listener is closed. The receiving side calls
 * accept() or does not. */
static bool half_made(session *s, bool accepts, bool goes_on)
{
    unsigned char handle[NCCL_NET_HANDLE_BYTES] = {0};
    void *listener = NULL, *comm = NULL;
    if (s->receives ? !listen_on(s, handle, &listener) || !session_give(s, handle, sizeof handle)
                    : !session_take(s, handle, sizeof handle))
        return false;
    if (!s->receives)
        comm = connect_for_a_while(s, handle);
    if (!session_meet(s))
        return false;
    for (int i = 0; s->receives && accepts && i < EARLY_CALLS && !comm; i++) {
        if (!session_good(s, plugin_accept(s->plugin, listener, &comm), "accept"))
            return false;
    }
    if (s->receives && !close_listener(s, listener))
        return false;
    if (!session_meet(s))
        return false;
    if (!s->receives && goes_on && !comm)
        comm = connect_for_a_while(s, handle);
    return (!comm || session_close(s, true, comm)) && session_meet(s);
}

/* Tests until all are done or one has an error. */
static bool settle(session *s, void **requests)
{
    waiting w = session_wait(s);
    for (int i = 0; i < REQUESTS; i++) {
        int done = 0, sizes[NCCL_NET_RECVS_MAX];
        while (requests[i] && !done) {
            if (plugin_test(s->plugin, requests[i], &done, sizes) != NCCL_SUCCESS)
                return true;
            if (!done && !session_waits(s, &w, "test() of a request whose other side has closed the connection"))
                return false;
        }
    }
    return true;
}

/* One side closes with requests under way; those of the other one end, with or without an error. */
static bool closed_midway(session *s, bool receiver_closes)
{
    static char data[REQUEST_BYTES];
    void *comm, *memory = NULL, *requests[REQUESTS] = {NULL}, *buffer = data;
    size_t bytes = sizeof data;
    int tag = 1, done, sizes[NCCL_NET_RECVS_MAX];
    bool closes = s->receives == receiver_closes;
    if (!session_connect(s, true, &comm) ||
        !session_good(s, plugin_register(s->plugin, comm, data, sizeof data, &memory), "regMr"))
        return false;
    for (int i = 0; i < REQUESTS; i++) {
        if (!session_good(s, s->receives ? plugin_receive(s->plugin, comm, 1, &buffer, &bytes, &tag, &memory, &requests[i])
                                         : plugin_send(s->plugin, comm, data, bytes, tag, memory, &requests[i]),
                          s->receives ? "irecv" : "isend"))
            return false;
    }
    for (int i = 0; i < TESTS && requests[0]; i++) {
        if (!session_good(s, plugin_test(s->plugin, requests[0], &done, sizes), "test"))
            return false;
        if (done)
            requests[0] = NULL;
    }
    if (!session_meet(s) || (!closes && (!session_meet(s) || !settle(s, requests))))
        return false;
    if ((memory && !session_good(s, plugin_deregister(s->plugin, comm, memory), "deregMr with requests under way")) ||
        !session_close(s, true, comm))
        return false;
    return (!closes || session_meet(s)) && session_meet(s);
}

bool case_half_made(session *s)
{
    int before = session_descriptors();
    if (!listen_in_vain(s) || !session_meet(s))
        return false;
    for (int i = 0; i < 4; i++) {
        if (!half_made(s, i & 1, i & 2))
            return false;
    }
    int left = session_descriptors() - before;
    if (s->receives && left > 0) /* the sending side has no call to give up what connect() has begun */
        return session_fail(s, "%d descriptors are still open after listeners without a connection were closed", left);
    return closed_midway(s, true) && closed_midway(s, false);
}

/* How the two sides of weft-net-test talk beside the plugin (a socket), wait with a limit, and connect through the plugin. */
#include "net-test_session.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CLOCK_EVERY = 64 /* rounds of a wait between two looks at the clock */ };

typedef enum note_kind { NOTE_DATA = 1, NOTE_FAILED } note_kind;
typedef struct note {
    uint32_t kind, bytes;
} note;

double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* ---- the channel ---- */

static bool put(session *s, const void *data, size_t bytes)
{
    const char *at = data;
    while (bytes > 0) {
        ssize_t n = send(s->channel, at, bytes, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        at += n;
        bytes -= (size_t)n;
    }
    return true;
}

static bool get(session *s, void *data, size_t bytes, double deadline)
{
    char *at = data;
    while (bytes > 0) {
        struct pollfd ready = {s->channel, POLLIN, 0};
        double left = deadline - now_s();
        if (left <= 0 || poll(&ready, 1, left < 1 ? (int)(left * 1000) + 1 : 1000) < 0)
            return false;
        ssize_t n = ready.revents ? recv(s->channel, at, bytes, MSG_DONTWAIT) : 1;
        if (!ready.revents || (n < 0 && (errno == EINTR || errno == EAGAIN)))
            continue;
        if (n <= 0)
            return false;
        at += n;
        bytes -= (size_t)n;
    }
    return true;
}

bool session_fail(session *s, const char *format, ...)
{
    if (s->failed)
        return false;
    va_list list;
    va_start(list, format);
    vsnprintf(s->reason, sizeof s->reason, format, list);
    va_end(list);
    s->failed = true;
    note failed = {NOTE_FAILED, sizeof s->reason};
    if (put(s, &failed, sizeof failed))
        put(s, s->reason, sizeof s->reason);
    return false;
}

bool session_good(session *s, nccl_result result, const char *call)
{
    return result == NCCL_SUCCESS || session_fail(s, "%s() returned %s", call, result_text(result));
}

/* The other side has failed: its reason becomes this side's. */
static bool other_failed(session *s)
{
    char reason[sizeof s->reason] = "";
    get(s, reason, sizeof reason, now_s() + 2);
    reason[sizeof reason - 1] = 0;
    if (!s->failed)
        snprintf(s->reason, sizeof s->reason, "the %s side: %.450s", s->receives ? "sending" : "receiving", reason);
    s->failed = true;
    return false;
}

bool session_give(session *s, const void *data, size_t bytes)
{
    note head = {NOTE_DATA, (uint32_t)bytes};
    if (s->failed)
        return false;
    if (put(s, &head, sizeof head) && put(s, data, bytes))
        return true;
    return session_fail(s, "the other side of the test is gone");
}

bool session_take(session *s, void *data, size_t bytes)
{
    note head;
    double deadline = now_s() + s->options->timeout_s * 2;
    if (s->failed)
        return false;
    if (!get(s, &head, sizeof head, deadline))
        return session_fail(s, "the other side of the test is gone, or did not come within %d s", s->options->timeout_s * 2);
    if (head.kind == NOTE_FAILED)
        return other_failed(s);
    if (head.bytes != bytes || !get(s, data, bytes, deadline))
        return session_fail(s, "the two sides of the test are at different places");
    return true;
}

bool session_meet(session *s)
{
    char mine = 'm', theirs;
    return session_give(s, &mine, 1) && session_take(s, &theirs, 1);
}

/* ---- waiting ---- */

waiting session_wait(const session *s)
{
    return (waiting){now_s() + s->options->timeout_s, 0};
}

bool session_waits(session *s, waiting *w, const char *call)
{
    if (s->failed)
        return false;
    sched_yield(); /* as NCCL's proxy does when it finds nothing to do */
    if (++w->rounds % CLOCK_EVERY)
        return true;
    note head;
    if (now_s() > w->deadline)
        return session_fail(s, "%s() has not come to an end within %d s", call, s->options->timeout_s);
    ssize_t n = recv(s->channel, &head, sizeof head, MSG_PEEK | MSG_DONTWAIT);
    if (n == 0)
        return session_fail(s, "the other side of the test is gone");
    if (n == (ssize_t)sizeof head && head.kind == NOTE_FAILED)
        return get(s, &head, sizeof head, now_s() + 2) && other_failed(s);
    return true;
}

/* ---- connections ---- */

static bool accept_one(session *s, void **comm)
{
    unsigned char handle[NCCL_NET_HANDLE_BYTES] = {0};
    void *listener;
    if (!session_good(s, plugin_listen(s->plugin, s->device, handle, &listener), "listen") ||
        !session_give(s, handle, sizeof handle))
        return false;
    waiting w = session_wait(s);
    *comm = NULL;
    do {
        if (!session_good(s, plugin_accept(s->plugin, listener, comm), "accept"))
            return false;
    } while (!*comm && session_waits(s, &w, "accept"));
    return *comm && session_good(s, plugin_close_listen(s->plugin, listener), "closeListen");
}

static bool connect_one(session *s, void **comm)
{
    unsigned char handle[NCCL_NET_HANDLE_BYTES]; /* one buffer for all calls: the plugin may keep its state in it */
    if (!session_take(s, handle, sizeof handle))
        return false;
    waiting w = session_wait(s);
    *comm = NULL;
    do {
        if (!session_good(s, plugin_connect(s->plugin, s->device, handle, comm), "connect"))
            return false;
    } while (!*comm && session_waits(s, &w, "connect"));
    return *comm;
}

bool session_connect(session *s, bool to_receiver, void **comm)
{
    return (s->receives == to_receiver ? accept_one(s, comm) : connect_one(s, comm)) && session_meet(s);
}

bool session_close(session *s, bool to_receiver, void *comm)
{
    if (s->receives == to_receiver)
        return session_good(s, plugin_close_receive(s->plugin, comm), "closeRecv");
    return session_good(s, plugin_close_send(s->plugin, comm), "closeSend");
}

int session_descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    int count = 0;
    while (folder && readdir(folder))
        count++;
    if (folder)
        closedir(folder);
    return count;
}

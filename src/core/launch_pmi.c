/* The key-value store of PMI-1 and PMI-2, spoken by hand on the descriptor that the launcher left in PMI_FD (MPICH's
 * mpiexec.hydra; srun --mpi=pmi2). PMI-1: "cmd=put kvsname=K key=A value=B" lines. PMI-2: six digits of length, then
 * "cmd=kvs-put;key=A;value=B;". Both are specified in Balaji et al., "PMI: A Scalable Parallel Process-Management Interface
 * for Extreme-Scale Systems" (2010) and MPICH's wiki. What one rank puts the others see after a barrier (fence) of all. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/settings.h"
#include "core/control_socket.h"
#include "core/launch.h"

enum { MESSAGE_BYTES = 4096, ANSWER_MS = 30000, VALUE_BYTES = 500 };

typedef struct pmi_store {
    weft_launch_store base;
    bool fenced; /* this creation's put is visible */
} pmi_store;

/* One conversation per process: it is opened once and ended at exit. */
static struct {
    pthread_mutex_t lock;
    int fd;          /* our own copy: an MPI library in the process may close its */
    int version;     /* 1 or 2 */
    pid_t pid;
    bool broken;     /* an answer is outstanding, the conversation is out of step */
    const char *owed; /* an answer that was asked for and not waited for yet */
    char space[256]; /* PMI-1: name of the key-value space; PMI-2: of the job */
    size_t have;
    char in[MESSAGE_BYTES];
} pmi = { .lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1 };

static weft_status broken(const char *what, const char *why)
{
    pmi.broken = true;
    return weft_fail(WEFT_ERR_SYSTEM, "PMI (PMI_FD): %s: %.200s", what, why);
}

static weft_status pmi_send(const char *what, const char *text)
{
    char message[MESSAGE_BYTES + 8];
    int bytes = pmi.version == 2 ? snprintf(message, sizeof message, "%6zu%s", strlen(text), text) :
                                   snprintf(message, sizeof message, "%s\n", text);
    for (int sent = 0; sent < bytes;) {
        ssize_t n = send(pmi.fd, message + sent, (size_t)(bytes - sent), MSG_NOSIGNAL);
        if (n < 0 && errno == ENOTSOCK)
            n = write(pmi.fd, message + sent, (size_t)(bytes - sent));
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return broken(what, strerror(errno));
        sent += n > 0 ? (int)n : 0;
    }
    return WEFT_OK;
}

/* Length of the first whole message in `in` and where its text starts; 0: not there yet; -1: garbage. */
static ssize_t whole_message(size_t *start)
{
    *start = 0;
    if (pmi.version != 2) {
        const char *end = memchr(pmi.in, '\n', pmi.have);
        return end != NULL ? end - pmi.in + 1 : pmi.have == sizeof pmi.in ? -1 : 0;
    }
    char digits[7] = "";
    if (pmi.have < 6)
        return 0;
    memcpy(digits, pmi.in, 6);
    char *end;
    long length = strtol(digits, &end, 10);
    if (*end != 0 || length < 0 || (size_t)length + 6 > sizeof pmi.in)
        return -1;
    *start = 6;
    return pmi.have >= 6 + (size_t)length ? 6 + length : 0;
}

/* The next message, which must be `command`, into text. */
static weft_status pmi_receive(const char *what, const char *command, int64_t deadline_ns, char text[MESSAGE_BYTES + 1])
{
    size_t start;
    ssize_t bytes;
    while ((bytes = whole_message(&start)) == 0) {
        struct pollfd p = { .fd = pmi.fd, .events = POLLIN };
        if (weft_now_ns() >= deadline_ns) {
            pmi.broken = true;
            return weft_fail(WEFT_ERR_TIMEOUT, "PMI (PMI_FD): %s: no answer in time (do all ranks take part?)", what);
        }
        if (poll(&p, 1, weft_control_poll_ms(deadline_ns, 1000)) <= 0)
            continue;
        ssize_t n = read(pmi.fd, pmi.in + pmi.have, sizeof pmi.in - pmi.have);
        if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
            return broken(what, n == 0 ? "the launcher closed it" : strerror(errno));
        pmi.have += n > 0 ? (size_t)n : 0;
    }
    if (bytes < 0)
        return broken(what, "the launcher sent something else than PMI");
    size_t length = (size_t)bytes - start;
    memcpy(text, pmi.in + start, length);
    text[length] = 0;
    text[strcspn(text, "\n")] = 0;
    pmi.have -= (size_t)bytes;
    memmove(pmi.in, pmi.in + bytes, pmi.have);
    size_t name = strlen(command);
    if (strncmp(text, "cmd=", 4) != 0 || strncmp(text + 4, command, name) != 0 ||
        (text[4 + name] != 0 && text[4 + name] != ' ' && text[4 + name] != ';'))
        return broken(what, text);
    return WEFT_OK;
}

static weft_status take_owed(int64_t deadline_ns)
{
    char answer[MESSAGE_BYTES + 1];
    const char *owed = pmi.owed;
    pmi.owed = NULL;
    return owed != NULL ? pmi_receive("barrier", owed, deadline_ns, answer) : WEFT_OK;
}

static weft_status ask(const char *what, const char *text, const char *answer_name, int64_t deadline_ns,
                       char answer[MESSAGE_BYTES + 1])
{
    if (pmi.broken)
        return weft_fail(WEFT_ERR_SYSTEM, "PMI (PMI_FD): %s: an earlier exchange with the launcher has failed", what);
    weft_status status = take_owed(deadline_ns);
    if (status == WEFT_OK)
        status = pmi_send(what, text);
    return status == WEFT_OK ? pmi_receive(what, answer_name, deadline_ns, answer) : status;
}

/* Value of `key` in "cmd=x key=value ..." (PMI-2: ";"), "" if it is not there. */
static const char *field(const char *message, const char *key, char value[MESSAGE_BYTES])
{
    const char *separator = pmi.version == 2 ? ";" : " ";
    size_t name = strlen(key);
    for (const char *at = message; *at != 0;) {
        size_t length = strcspn(at, separator);
        if (length > name && strncmp(at, key, name) == 0 && at[name] == '=') {
            memcpy(value, at + name + 1, length - name - 1);
            value[length - name - 1] = 0;
            return value;
        }
        at += length + (at[length] != 0);
    }
    value[0] = 0;
    return value;
}

/* ---- the conversation ------------------------------------------------------------------------------ */

static void end_at_exit(void)
{
    char answer[MESSAGE_BYTES + 1];
    if (pmi.fd < 0 || pmi.pid != getpid())
        return;
    /* Without it the launcher takes a normal exit for a crash. If MPI has ended the conversation already, this fails. */
    pmi.broken = pmi.broken || pmi.have != 0;
    if (!pmi.broken)
        ask("finalize", pmi.version == 2 ? "cmd=finalize;" : "cmd=finalize",
            pmi.version == 2 ? "finalize-response" : "finalize_ack", weft_deadline_ns(1000), answer);
}

static weft_status full_init(int rank, int64_t deadline_ns)
{
    char text[256], answer[MESSAGE_BYTES + 1], value[MESSAGE_BYTES];
    pmi.version = 2;
    snprintf(text, sizeof text, "cmd=fullinit;pmirank=%d;threaded=FALSE;", rank);
    weft_status status = ask("fullinit", text, "fullinit-response", deadline_ns, answer);
    if (status == WEFT_OK && strcmp(field(answer, "rc", value), "0") != 0)
        return broken("fullinit", answer);
    if (status == WEFT_OK)
        status = ask("job-getid", "cmd=job-getid;", "job-getid-response", deadline_ns, answer);
    if (status == WEFT_OK)
        snprintf(pmi.space, sizeof pmi.space, "%.255s", field(answer, "jobid", value));
    return status;
}

static weft_status init(int rank)
{
    char answer[MESSAGE_BYTES + 1], value[MESSAGE_BYTES];
    int64_t deadline_ns = weft_deadline_ns(ANSWER_MS);
    pmi.version = 1;
    weft_status status = ask("init", "cmd=init pmi_version=1 pmi_subversion=1", "response_to_init", deadline_ns, answer);
    if (status != WEFT_OK)
        return status;
    if (strcmp(field(answer, "rc", value), "0") != 0 || strcmp(field(answer, "pmi_version", value), "1") != 0) {
        status = ask("init", "cmd=init pmi_version=2 pmi_subversion=0", "response_to_init", deadline_ns, answer);
        if (status == WEFT_OK && strcmp(field(answer, "rc", value), "0") != 0)
            return broken("init", answer);
        return status == WEFT_OK ? full_init(rank, deadline_ns) : status;
    }
    status = ask("get_my_kvsname", "cmd=get_my_kvsname", "my_kvsname", deadline_ns, answer);
    if (status == WEFT_OK)
        snprintf(pmi.space, sizeof pmi.space, "%.255s", field(answer, "kvsname", value));
    return status;
}

static weft_status begin(int rank)
{
    int64_t fd;
    if (pmi.fd >= 0 && pmi.pid == getpid())
        return pmi.broken ? weft_fail(WEFT_ERR_SYSTEM, "PMI (PMI_FD): an earlier exchange with the launcher has failed")
                          : WEFT_OK;
    const char *text = getenv("PMI_FD");
    if (text == NULL || weft_parse_int(text, 0, INT32_MAX, &fd) != WEFT_OK)
        return weft_fail(WEFT_ERR_PARSE, "PMI_FD is '%s': must be a file descriptor", text != NULL ? text : "");
    int copy = fcntl((int)fd, F_DUPFD_CLOEXEC, 3);
    if (copy < 0)
        return weft_fail_errno(WEFT_ERR_SYSTEM, "PMI_FD is %d, which is no open descriptor (was it closed by a script between "
                               "the launcher and this program?)", (int)fd);
    pmi.fd = copy;
    pmi.pid = getpid();
    pmi.have = 0;
    pmi.broken = false;
    weft_status status = init(rank);
    if (status != WEFT_OK) {
        close(pmi.fd);
        pmi.fd = -1;
        return status;
    }
    static bool registered;
    if (!registered)
        registered = atexit(end_at_exit) == 0;
    return WEFT_OK;
}

/* ---- the store ------------------------------------------------------------------------------------- */

/* Enters the barrier; who is through is the matter of take_owed. */
static weft_status enter_fence(pmi_store *s)
{
    if (s->fenced)
        return WEFT_OK;
    s->fenced = true;
    weft_status status = pmi_send("barrier", pmi.version == 2 ? "cmd=kvs-fence;" : "cmd=barrier_in");
    pmi.owed = status == WEFT_OK ? (pmi.version == 2 ? "kvs-fence-response" : "barrier_out") : NULL;
    return status;
}

static weft_status put(pmi_store *s, const char *key, const void *value, size_t bytes)
{
    char hex[2 * VALUE_BYTES + 1], text[MESSAGE_BYTES], answer[MESSAGE_BYTES + 1], result[MESSAGE_BYTES];
    if (bytes > VALUE_BYTES || strlen(key) > 60)
        return weft_fail(WEFT_ERR_INVALID, "PMI: key '%.80s' or its value of %zu bytes is too long", key, bytes);
    weft_launch_to_hex(value, bytes, hex);
    if (pmi.version == 2)
        snprintf(text, sizeof text, "cmd=kvs-put;key=%s;value=%s;", key, hex);
    else
        snprintf(text, sizeof text, "cmd=put kvsname=%s key=%s value=%s", pmi.space, key, hex);
    weft_status status = ask("put", text, pmi.version == 2 ? "kvs-put-response" : "put_result",
                             weft_deadline_ns(ANSWER_MS), answer);
    if (status == WEFT_OK && strcmp(field(answer, "rc", result), "0") != 0)
        return weft_fail(WEFT_ERR_SYSTEM, "PMI: put of '%s' failed: %.200s", key, answer);
    /* The launcher shows it to the others only after a barrier of all. They wait in it; this rank waits for them at the meeting,
     * which has a deadline and can name who is missing. */
    return status == WEFT_OK ? enter_fence(s) : status;
}

static weft_status get(pmi_store *s, const char *key, void *value, size_t *bytes, int64_t deadline_ns)
{
    char text[MESSAGE_BYTES], answer[MESSAGE_BYTES + 1], result[MESSAGE_BYTES];
    weft_status status = pmi.broken ? WEFT_ERR_SYSTEM : enter_fence(s);
    if (status == WEFT_OK)
        status = take_owed(deadline_ns);
    if (status != WEFT_OK)
        return status;
    if (pmi.version == 2)
        snprintf(text, sizeof text, "cmd=kvs-get;jobid=%s;srcid=-1;key=%s;", pmi.space, key);
    else
        snprintf(text, sizeof text, "cmd=get kvsname=%s key=%s", pmi.space, key);
    status = ask("get", text, pmi.version == 2 ? "kvs-get-response" : "get_result", weft_deadline_ns(ANSWER_MS), answer);
    if (status != WEFT_OK)
        return status;
    if (strcmp(field(answer, "rc", result), "0") != 0 || !weft_launch_from_hex(field(answer, "value", result), value, bytes))
        return weft_fail(WEFT_ERR_SYSTEM, "PMI: get of '%s' failed: %.200s", key, answer);
    return WEFT_OK;
}

static int store_set(void *context, const char *key, const void *value, size_t bytes)
{
    pthread_mutex_lock(&pmi.lock);
    int status = (int)put(context, key, value, bytes);
    pthread_mutex_unlock(&pmi.lock);
    return status;
}

static int store_get(void *context, const char *key, void *value, size_t *bytes, int64_t timeout_ms)
{
    pthread_mutex_lock(&pmi.lock);
    int status = (int)get(context, key, value, bytes, weft_deadline_ns(timeout_ms));
    pthread_mutex_unlock(&pmi.lock);
    return status;
}

static void release(weft_launch_store *store)
{
    /* An MPI library in the process may speak next: nothing may be left to be read. After a creation it is there. */
    pthread_mutex_lock(&pmi.lock);
    if (pmi.pid == getpid() && !pmi.broken)
        take_owed(weft_deadline_ns(1000));
    pthread_mutex_unlock(&pmi.lock);
    weft_free(container_of(store, pmi_store, base));
}

weft_status weft_launch_pmi_open(int rank, int size, weft_launch_store **out)
{
    (void)size;
    pmi_store *s = weft_alloc(sizeof *s);
    if (s == NULL)
        return weft_fail(WEFT_ERR_MEMORY, "no memory for the PMI store");
    pthread_mutex_lock(&pmi.lock);
    weft_status status = begin(rank);
    pthread_mutex_unlock(&pmi.lock);
    if (status != WEFT_OK) {
        weft_free(s);
        return status;
    }
    s->base.release = release;
    s->base.store = (weft_store){ .set = store_set, .get = store_get, .context = s };
    *out = &s->base;
    return WEFT_OK;
}

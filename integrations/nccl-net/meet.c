/* How two sides find together: the listener's address goes to the dialler in NCCL's handle; over a first connection they tell
 * each other who they are and choose a transport, and over that one slice is sent. Nothing here blocks: every call goes as far as
 * it can, and keeps its state in the handle (dialler) or the listener. */
#define _GNU_SOURCE
#include "nccl_net.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define HANDLE_MAGIC UINT64_C(0x7466657774656e32)

enum {
    BACKLOG = 4096,
    ACCEPTS_AT_ONCE = 16,
    SILENT_GUESTS_MAX = 256, /* that have not said who they are; the oldest is dropped for a newer one */
    GONE_MS = 10000          /* how much later than the end of the first connection the first slice may come */
};

typedef enum attempt_state {
    MEET_CONNECTING,           /* the dialler's connect() runs */
    MEET_SAYING, MEET_HEARING, /* the hello, and its answer */
    MEET_STARTING              /* the first slice over the chosen transport */
} attempt_state;

typedef struct net_attempt net_attempt;
struct net_attempt {
    net_attempt *next;         /* guests of a listener, the newest first; or all that dial */
    attempt_state state;
    int fd;
    net_address remote;
    uint64_t job;
    size_t moved;              /* bytes of `hello` that have gone or come */
    net_hello hello;
    net_comm *comm[NET_TRANSPORTS_MAX]; /* a side for each offer; in the end one */
    int comms;
    int64_t asked_ms;          /* dialling: when the caller last asked for it */
    int64_t gone_ms;           /* when it was seen that the other side has closed the first connection; 0: it has not */
};

struct net_listener {
    int fd, device;
    uint64_t job;
    net_attempt *guests;
};

/* Best first. What is not built in or finds no device is left out. */
static const char *const transport_names[] = {"verbs", "tcp"};

static void attempt_free(net_attempt *attempt)
{
    if (attempt->fd >= 0)
        close(attempt->fd);
    for (int i = 0; i < attempt->comms; i++) {
        if (attempt->comm[i]) {
            attempt->comm[i]->failed = NCCL_INTERNAL_ERROR; /* nobody uses it: not worth waiting for what it may still send */
            net_comm_destroy(attempt->comm[i]);
        }
    }
    free(attempt);
}

static void keep_alive(int fd)
{
    int on = 1, idle_s = 5, interval_s = 2, count = 3;
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static const char *limit_hint(int error)
{
    return error == EMFILE || error == ENFILE ? "; raise the limit on descriptors (ulimit -n)" : "";
}

/* ---- moving a hello ---- */

typedef enum moved { MOVED_ALL, MOVED_SOME, MOVED_ENDED } moved;

/* Sends or receives what is left of the hello. MOVED_ENDED: the connection is lost, errno says why, 0: closed. */
static moved move_hello(net_attempt *attempt, bool out)
{
    while (attempt->moved < sizeof attempt->hello) {
        char *at = (char *)&attempt->hello + attempt->moved;
        size_t left = sizeof attempt->hello - attempt->moved;
        ssize_t n = out ? send(attempt->fd, at, left, MSG_DONTWAIT | MSG_NOSIGNAL) : recv(attempt->fd, at, left, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return MOVED_SOME;
        if (n <= 0) {
            errno = n == 0 ? 0 : errno;
            return MOVED_ENDED;
        }
        attempt->moved += (size_t)n;
    }
    attempt->moved = 0;
    return MOVED_ALL;
}

static const char *end_text(int error)
{
    return error ? strerror(error) : "it closed the connection";
}

/* ---- a side of the connection ---- */

static const weft_transport_ops *find_transport(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(transport_names); i++) {
        if (strcmp(transport_names[i], name) == 0)
            return weft_transport_find(name);
    }
    return NULL;
}

static nccl_result add_side(net_attempt *attempt, const char *name, const net_device *device, bool sends, net_offer *offer)
{
    const weft_transport_ops *ops = find_transport(name);
    net_comm *comm;
    size_t bytes = sizeof offer->address;
    if (!ops || (!device->rdma_ports[0] && strcmp(name, "verbs") == 0))
        return NCCL_INTERNAL_ERROR;
    nccl_result result = net_comm_create(ops, device, attempt->job, sends, &comm);
    if (result != NCCL_SUCCESS)
        return result;
    weft_status status = ops->address(comm->transport, offer->address, &bytes);
    if (status != WEFT_OK) {
        net_comm_destroy(comm);
        return net_result(status);
    }
    snprintf(offer->transport, sizeof offer->transport, "%s", name);
    offer->bytes = (uint16_t)bytes;
    attempt->comm[attempt->comms++] = comm;
    return NCCL_SUCCESS;
}

/* Joins a side with the other's; it is the one that stays. */
static nccl_result join_sides(net_attempt *attempt, int chosen, const net_offer *theirs, const char *name)
{
    net_comm *comm = attempt->comm[chosen];
    char address[NET_ADDRESS_TEXT];
    int peer = comm->sends ? NET_RECEIVE_RANK : NET_SEND_RANK;
    weft_status status = comm->ops->connect(comm->transport, peer, theirs->address, theirs->bytes, &comm->endpoint);
    if (status != WEFT_OK)
        return net_result(status);
    snprintf(comm->peer, sizeof comm->peer, "%.95s (%s)", name, net_address_text(&attempt->remote, address));
    for (int i = 0; i < attempt->comms; i++) {
        if (i != chosen)
            net_comm_destroy(attempt->comm[i]);
    }
    attempt->comm[0] = comm;
    attempt->comms = 1;
    return NCCL_SUCCESS;
}

/* An adapter whose port has no interface, and the sides agreed on tcp all the same: it works, but not where it was to. */
static void tell_detour(const net_comm *comm, const net_device *device)
{
    if (device->bare && strcmp(comm->ops->name, "tcp") == 0)
        net_warn("the connection %s %s goes not over %s but by TCP over %s: one side has no RDMA device that it can use "
                 "(NCCL_DEBUG=INFO says why)", comm->sends ? "to" : "from", comm->peer, device->name, device->interfaces + 1);
}

/* tcp notices by itself that the other side is gone; for others the first connection stays as the one that shows it. */
static net_comm *hand_over(net_attempt *attempt, const net_device *device)
{
    net_comm *comm = attempt->comm[0];
    tell_detour(comm, device);
    if (strcmp(comm->ops->name, "tcp") != 0) {
        comm->control = attempt->fd;
        attempt->fd = -1;
    }
    attempt->comms = 0;
    attempt_free(attempt);
    return comm;
}

/* ---- listening ---- */

static bool listen_at(net_listener *listener, net_address *address, long low, long high)
{
    int on = 1;
    for (long port = low; port <= high; port++) {
        listener->fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (listener->fd < 0)
            return false;
        if (low > 0)
            setsockopt(listener->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (address->any.sa_family == AF_INET6)
            address->v6.sin6_port = htons((uint16_t)port);
        else
            address->v4.sin_port = htons((uint16_t)port);
        if (bind(listener->fd, &address->any, net_address_bytes(address)) == 0 && listen(listener->fd, BACKLOG) == 0)
            return true;
        int error = errno;
        close(listener->fd);
        listener->fd = -1;
        errno = error;
        if (error != EADDRINUSE)
            return false;
    }
    return false;
}

static bool port_range(long *low, long *high)
{
    const char *text = net_setting("WEFT_PORT_RANGE");
    *low = *high = 0;
    if (!text)
        return true;
    char *end;
    *low = *high = strtol(text, &end, 10);
    if (*end == '-')
        *high = strtol(end + 1, &end, 10);
    if (*end == 0 && *low >= 1 && *high >= *low && *high <= 65535)
        return true;
    net_warn("WEFT_PORT_RANGE '%s' is not low-high with ports from 1 to 65535", text);
    return false;
}

static void fill_handle(net_handle *handle, const net_listener *listener, const net_address *address)
{
    memset(handle, 0, NCCL_NET_HANDLE_BYTES);
    handle->magic = HANDLE_MAGIC;
    handle->job = listener->job;
    handle->version = NET_VERSION;
    handle->family = address->any.sa_family == AF_INET6 ? 6 : 4;
    if (handle->family == 6) {
        handle->port = address->v6.sin6_port;
        memcpy(handle->address, &address->v6.sin6_addr, 16);
    } else {
        handle->port = address->v4.sin_port;
        memcpy(handle->address, &address->v4.sin_addr, 4);
    }
}

nccl_result net_listen(int number, net_handle *handle, net_listener **out)
{
    const net_device *device = net_device_get(number);
    long low, high;
    if (!device || !port_range(&low, &high))
        return NCCL_INVALID_ARGUMENT;
    net_listener *listener = calloc(1, sizeof *listener);
    if (!listener) {
        net_warn("no memory for a listener");
        return NCCL_SYSTEM_ERROR;
    }
    net_address address = device->address;
    socklen_t bytes = sizeof address;
    char text[NET_ADDRESS_TEXT];
    listener->device = number;
    if (getrandom(&listener->job, sizeof listener->job, 0) != (ssize_t)sizeof listener->job ||
        !listen_at(listener, &address, low, high) || getsockname(listener->fd, &address.any, &bytes) != 0) {
        int error = errno;
        net_warn("cannot listen on %s of %s: %s%s", net_address_text(&device->address, text), device->name, strerror(error),
                 limit_hint(error));
        if (listener->fd > 0)
            close(listener->fd);
        free(listener);
        return NCCL_SYSTEM_ERROR;
    }
    fill_handle(handle, listener, &address);
    *out = listener;
    return NCCL_SUCCESS;
}

void net_listener_close(net_listener *listener)
{
    while (listener->guests) {
        net_attempt *guest = listener->guests;
        listener->guests = guest->next;
        attempt_free(guest);
    }
    close(listener->fd);
    free(listener);
}

/* ---- dialling ---- */

/* Whoever gives up connecting does not say so, there is no call for it: what nobody has asked for in so long is
 * taken for that. */
enum { ABANDONED_MS = 5 * 60 * 1000 };
static pthread_mutex_t dialling_lock = PTHREAD_MUTEX_INITIALIZER;
static net_attempt *dialling;

static void free_all(net_attempt *first)
{
    while (first) {
        net_attempt *one = first;
        first = one->next;
        attempt_free(one);
    }
}

static void enlist(net_attempt *attempt)
{
    net_attempt *abandoned = NULL;
    attempt->asked_ms = net_now_ms();
    pthread_mutex_lock(&dialling_lock);
    for (net_attempt **link = &dialling; *link;) {
        net_attempt *one = *link;
        if (attempt->asked_ms - one->asked_ms < ABANDONED_MS) {
            link = &one->next;
            continue;
        }
        *link = one->next;
        one->next = abandoned;
        abandoned = one;
    }
    attempt->next = dialling;
    dialling = attempt;
    pthread_mutex_unlock(&dialling_lock);
    free_all(abandoned);
}

void net_dialling_end(void)
{
    pthread_mutex_lock(&dialling_lock);
    net_attempt *abandoned = dialling;
    dialling = NULL;
    pthread_mutex_unlock(&dialling_lock);
    free_all(abandoned);
}

/* Takes it out of those that dial, for one step or for good. NULL: it was taken for abandoned. */
static net_attempt *delist(net_attempt *attempt)
{
    pthread_mutex_lock(&dialling_lock);
    net_attempt **link = &dialling;
    while (*link && *link != attempt)
        link = &(*link)->next;
    net_attempt *found = *link;
    if (found)
        *link = found->next;
    pthread_mutex_unlock(&dialling_lock);
    return found;
}

static nccl_result start_dialling(net_handle *handle, const net_device *device)
{
    net_attempt *attempt = calloc(1, sizeof *attempt);
    char text[NET_ADDRESS_TEXT];
    if (!attempt) {
        net_warn("no memory for a connection");
        return NCCL_SYSTEM_ERROR;
    }
    net_address *to = &attempt->remote;
    attempt->job = handle->job;
    if (handle->family == 6) {
        to->v6.sin6_family = AF_INET6;
        to->v6.sin6_port = handle->port;
        memcpy(&to->v6.sin6_addr, handle->address, 16);
        to->v6.sin6_scope_id = IN6_IS_ADDR_LINKLOCAL(&to->v6.sin6_addr) ? device->scope : 0;
    } else {
        to->v4.sin_family = AF_INET;
        to->v4.sin_port = handle->port;
        memcpy(&to->v4.sin_addr, handle->address, 4);
    }
    attempt->fd = socket(to->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (attempt->fd >= 0)
        keep_alive(attempt->fd);
    if (attempt->fd < 0 || (connect(attempt->fd, &to->any, net_address_bytes(to)) != 0 && errno != EINPROGRESS)) {
        int error = errno;
        net_warn("cannot connect to %s from %s: %s%s", net_address_text(to, text), device->name, strerror(error),
                 limit_hint(error));
        attempt_free(attempt);
        return error == EMFILE || error == ENFILE ? NCCL_SYSTEM_ERROR : NCCL_REMOTE_ERROR;
    }
    attempt->state = MEET_CONNECTING;
    handle->attempt = attempt;
    enlist(attempt);
    return NCCL_SUCCESS;
}

static nccl_result make_offers(net_attempt *attempt, const net_device *device)
{
    net_hello_begin(&attempt->hello, attempt->job);
    nccl_result result = NCCL_INTERNAL_ERROR;
    for (size_t i = 0; i < ARRAY_LEN(transport_names); i++) {
        nccl_result one = add_side(attempt, transport_names[i], device, true, &attempt->hello.offer[attempt->comms]);
        result = one == NCCL_INTERNAL_ERROR ? result : one;
    }
    attempt->hello.offers = (uint32_t)attempt->comms;
    if (attempt->comms > 0)
        return NCCL_SUCCESS;
    net_warn("no transport can be used on %s: %s", device->name, weft_last_error());
    return result;
}

static nccl_result take_answer(net_attempt *attempt)
{
    net_hello *answer = &attempt->hello;
    char text[NET_ADDRESS_TEXT];
    const char *why;
    net_address_text(&attempt->remote, text);
    if (!net_hello_check(answer, attempt->job, &why) || (!answer->refused && answer->offers != 1)) {
        net_warn("cannot connect to %s: %s", text, why ? why : "its answer makes no sense");
        return NCCL_REMOTE_ERROR;
    }
    if (answer->refused) {
        net_warn("cannot connect to %s (%s): it refuses: %s", answer->name, text, answer->reason);
        return NCCL_REMOTE_ERROR;
    }
    for (int i = 0; i < attempt->comms; i++) {
        net_comm *comm = attempt->comm[i];
        net_frame frame = {.kind = NET_START};
        if (strcmp(comm->ops->name, answer->offer[0].transport) != 0)
            continue;
        nccl_result result = join_sides(attempt, i, &answer->offer[0], answer->name);
        if (result == NCCL_SUCCESS && net_comm_put(comm, &frame, NULL, 0, NULL))
            return NCCL_SUCCESS;
        net_warn("cannot connect to %s (%s): %s", answer->name, text, weft_last_error());
        return result == NCCL_SUCCESS ? comm->failed : result;
    }
    net_warn("cannot connect to %s (%s): it chose a transport that was not offered", answer->name, text);
    return NCCL_REMOTE_ERROR;
}

static nccl_result lost(const net_attempt *attempt, int error)
{
    char text[NET_ADDRESS_TEXT];
    net_warn("cannot connect to %s: %s", net_address_text(&attempt->remote, text), end_text(error));
    return NCCL_REMOTE_ERROR;
}

/* Goes as far as it can; *connected says whether the connection stands. */
static nccl_result dial(net_attempt *attempt, const net_device *device, bool *connected)
{
    nccl_result result = NCCL_SUCCESS;
    *connected = false;
    if (attempt->state == MEET_CONNECTING) {
        struct pollfd ready = {attempt->fd, POLLOUT, 0};
        int error = 0;
        socklen_t bytes = sizeof error;
        if (poll(&ready, 1, 0) <= 0)
            return NCCL_SUCCESS;
        getsockopt(attempt->fd, SOL_SOCKET, SO_ERROR, &error, &bytes);
        if (error)
            return lost(attempt, error);
        result = make_offers(attempt, device);
        if (result != NCCL_SUCCESS)
            return result;
        attempt->state = MEET_SAYING;
    }
    if (attempt->state == MEET_SAYING || attempt->state == MEET_HEARING) {
        moved how = MOVED_ALL;
        if (attempt->state == MEET_SAYING)
            how = move_hello(attempt, true);
        if (how == MOVED_ALL) {
            attempt->state = MEET_HEARING;
            how = move_hello(attempt, false);
        }
        if (how != MOVED_ALL)
            return how == MOVED_ENDED ? lost(attempt, errno) : NCCL_SUCCESS;
        result = take_answer(attempt);
        if (result != NCCL_SUCCESS)
            return result;
        attempt->state = MEET_STARTING;
    }
    net_comm *comm = attempt->comm[0];
    net_comm_progress(comm);
    *connected = comm->slices_out == 0 && !comm->failed;
    return comm->failed ? net_comm_failure(comm) : NCCL_SUCCESS;
}

nccl_result net_connect(int number, net_handle *handle, net_comm **out)
{
    const net_device *device = net_device_get(number);
    bool connected = false;
    *out = NULL;
    if (!device)
        return NCCL_INVALID_ARGUMENT;
    if (handle->magic != HANDLE_MAGIC || handle->version != NET_VERSION) {
        net_warn("the other side's handle is not of this version of this plugin; use one version in the whole job");
        return NCCL_INVALID_USAGE;
    }
    nccl_result result = handle->attempt ? NCCL_SUCCESS : start_dialling(handle, device);
    if (result != NCCL_SUCCESS)
        return result;
    net_attempt *attempt = delist(handle->attempt);
    if (attempt) {
        result = dial(attempt, device, &connected);
    } else {
        net_warn("a connection was given up, as nobody asked for it for %d minutes", ABANDONED_MS / 60000);
        result = NCCL_REMOTE_ERROR;
    }
    if (result == NCCL_SUCCESS && !connected) {
        enlist(attempt);
        return NCCL_SUCCESS;
    }
    handle->attempt = NULL;
    if (connected && result == NCCL_SUCCESS)
        *out = hand_over(attempt, device);
    else if (attempt)
        attempt_free(attempt);
    return result;
}

/* ---- accepting ---- */

static void drop_guest(net_listener *listener, net_attempt *guest, const char *why)
{
    char text[NET_ADDRESS_TEXT];
    net_info("connection from %s dropped: %s", net_address_text(&guest->remote, text), why);
    for (net_attempt **at = &listener->guests; *at; at = &(*at)->next) {
        if (*at == guest) {
            *at = guest->next;
            break;
        }
    }
    attempt_free(guest);
}

static void drop_oldest_silent(net_listener *listener)
{
    net_attempt *oldest = NULL;
    int silent = 0;
    for (net_attempt *guest = listener->guests; guest; guest = guest->next) {
        if (guest->state == MEET_HEARING) {
            oldest = guest;
            silent++;
        }
    }
    if (silent > SILENT_GUESTS_MAX)
        drop_guest(listener, oldest, "too many connections that do not say who they are, this is the oldest");
}

static nccl_result welcome_guests(net_listener *listener)
{
    for (int i = 0; i < ACCEPTS_AT_ONCE; i++) {
        net_address from;
        socklen_t bytes = sizeof from;
        memset(&from, 0, sizeof from);
        int fd = accept4(listener->fd, &from.any, &bytes, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
            int error = errno;
            net_warn("cannot accept a connection: %s%s", strerror(error), limit_hint(error));
            return NCCL_SYSTEM_ERROR;
        }
        if (fd < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            break;
        if (fd < 0)
            continue; /* that one is gone already */
        net_attempt *guest = calloc(1, sizeof *guest);
        if (!guest) {
            close(fd);
            net_warn("no memory for a connection");
            return NCCL_SYSTEM_ERROR;
        }
        keep_alive(fd);
        guest->state = MEET_HEARING;
        guest->fd = fd;
        guest->remote = from;
        guest->job = listener->job;
        guest->next = listener->guests;
        listener->guests = guest;
        drop_oldest_silent(listener);
    }
    return NCCL_SUCCESS;
}

/* Takes the first offer that works here and turns the guest's hello into the answer. */
static void choose(net_attempt *guest, const net_device *device)
{
    net_hello theirs = guest->hello;
    net_hello *answer = &guest->hello;
    char reason[sizeof answer->reason] = "it offers no transport that there is here";
    net_hello_begin(answer, guest->job);
    for (uint32_t i = 0; i < theirs.offers; i++) {
        const net_offer *offer = &theirs.offer[i];
        if (add_side(guest, offer->transport, device, false, &answer->offer[0]) == NCCL_SUCCESS) {
            net_comm *comm = guest->comm[0];
            if (comm->ops->reachable(comm->transport, NET_SEND_RANK, offer->address, offer->bytes, NULL) == WEFT_OK &&
                join_sides(guest, 0, offer, theirs.name) == NCCL_SUCCESS) {
                answer->offers = 1;
                return;
            }
            net_comm_destroy(comm);
            guest->comms = 0;
        }
        snprintf(reason, sizeof reason, "%s: %s", offer->transport, weft_last_error());
    }
    answer->refused = 1;
    memcpy(answer->reason, reason, sizeof answer->reason);
    net_warn("cannot accept %s: %s", theirs.name, reason);
}

/* Moves one guest on. False: it is gone. *result is of a guest that was one of the job and failed. */
static bool serve(net_listener *listener, net_attempt *guest, bool *ready, nccl_result *result)
{
    const char *why;
    if (guest->state == MEET_HEARING) {
        moved how = move_hello(guest, false);
        if (how == MOVED_SOME)
            return true;
        if (how == MOVED_ENDED || !net_hello_check(&guest->hello, listener->job, &why)) {
            drop_guest(listener, guest, how == MOVED_ENDED ? "it went before it had said who it is" : why);
            return false;
        }
        choose(guest, net_device_get(listener->device));
        guest->state = MEET_SAYING;
    }
    if (guest->state == MEET_SAYING) {
        moved how = move_hello(guest, true);
        if (how == MOVED_SOME)
            return true;
        if (how == MOVED_ENDED || guest->hello.refused) {
            *result = NCCL_REMOTE_ERROR;
            drop_guest(listener, guest, how == MOVED_ENDED ? end_text(errno) : "it was refused");
            return false;
        }
        guest->state = MEET_STARTING;
    }
    net_comm_progress(guest->comm[0]);
    *ready = guest->comm[0]->started;
    if (*ready || !guest->comm[0]->failed)
        return true;
    *result = net_comm_failure(guest->comm[0]);
    drop_guest(listener, guest, "it failed");
    return false;
}

/* A dialler closes this first connection when it has sent its first slice, or when it dies. */
static bool is_gone(net_attempt *guest)
{
    char byte;
    if (guest->state != MEET_STARTING)
        return false;
    if (guest->gone_ms == 0 && recv(guest->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0)
        guest->gone_ms = net_now_ms();
    return guest->gone_ms != 0 && net_now_ms() - guest->gone_ms > GONE_MS;
}

nccl_result net_accept(net_listener *listener, net_comm **out)
{
    *out = NULL;
    nccl_result result = welcome_guests(listener);
    for (net_attempt **at = &listener->guests; *at && result == NCCL_SUCCESS;) {
        net_attempt *guest = *at;
        bool ready = false;
        if (!serve(listener, guest, &ready, &result))
            continue; /* *at is the next one now */
        if (ready) {
            *at = guest->next;
            *out = hand_over(guest, net_device_get(listener->device));
            return NCCL_SUCCESS;
        }
        if (is_gone(guest)) {
            net_warn("%s went while it connected", guest->comm[0]->peer);
            drop_guest(listener, guest, "it went");
            return NCCL_REMOTE_ERROR;
        }
        at = &guest->next;
    }
    return result;
}

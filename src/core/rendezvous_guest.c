/* A rank's part in the meeting: find the server, join, take its verdict, connect the tree's edges, wait for "go".
 * Connecting is retried until the deadline, as ranks start in any order; what went wrong last is in the error. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/rendezvous.h"

enum { VERDICT_GRACE_MS = 1500, RETRY_LEAST_MS = 10, RETRY_MOST_MS = 250, PATIENCE_MOST_MS = 8000 };

static void pause_until(int64_t deadline_ns, int64_t ms)
{
    int wait = weft_control_poll_ms(deadline_ns, (int)ms);
    poll(NULL, 0, wait);
}

/* Reads exactly `bytes`. */
static weft_status read_all(int fd, void *data, size_t bytes, int64_t deadline_ns)
{
    char *at = data;
    while (bytes != 0) {
        ssize_t n = recv(fd, at, bytes, 0);
        if (n > 0) {
            at += n;
            bytes -= (size_t)n;
        } else if (n == 0) {
            return weft_fail(WEFT_ERR_PEER, "the meeting place closed the connection: did the process that serves it die?");
        } else if (errno == EAGAIN) {
            struct pollfd p = { .fd = fd, .events = POLLIN };
            if (weft_now_ns() >= deadline_ns)
                return weft_fail(WEFT_ERR_TIMEOUT, "the meeting place did not answer in time");
            poll(&p, 1, weft_control_poll_ms(deadline_ns, 1000));
        } else if (errno != EINTR) {
            return weft_fail_errno(WEFT_ERR_PEER, "the connection to the meeting place broke");
        }
    }
    return WEFT_OK;
}

weft_status weft_meeting_receive(int meeting, int64_t deadline_ns, weft_frame_header *header, uint8_t **payload)
{
    uint8_t head[WEFT_FRAME_HEADER_BYTES];
    char text[WEFT_MEETING_TEXT_BYTES];
    *payload = NULL;
    weft_status status = read_all(meeting, head, sizeof head, deadline_ns);
    if (status != WEFT_OK)
        return status;
    if (!weft_frame_decode(header, head) || header->bytes > WEFT_MEETING_FRAME_LIMIT)
        return weft_fail(WEFT_ERR_PEER, "the meeting place sent a malformed message");
    *payload = weft_alloc(header->bytes + 1);
    if (*payload == NULL)
        return weft_fail(WEFT_ERR_MEMORY, "no memory for %zu bytes from the meeting place", header->bytes);
    status = read_all(meeting, *payload, header->bytes, deadline_ns);
    if (status == WEFT_OK && header->type == WEFT_FRAME_ERROR) {
        weft_status verdict;
        if (weft_error_decode(&verdict, text, sizeof text, *payload, header->bytes))
            status = weft_fail(verdict, "%s", text);
        else
            status = weft_fail(WEFT_ERR_PEER, "the meeting place sent a malformed message");
    }
    if (status != WEFT_OK) {
        weft_free(*payload);
        *payload = NULL;
    }
    return status;
}

/* Tells the server why this rank cannot go on, so that the others need not find out by a timeout. */
static void send_failure(int meeting, weft_status status, const char *reason)
{
    uint8_t frame[WEFT_FRAME_HEADER_BYTES + 4 + WEFT_MEETING_TEXT_BYTES];
    size_t bytes = weft_error_encode(status, reason, frame, sizeof frame);
    weft_control_write(meeting, frame, bytes, weft_deadline_ns(100));
}

void weft_meeting_release(weft_meeting_result *result)
{
    weft_control_close(result->parent);
    for (int i = 0; i < WEFT_TREE_FANOUT; i++)
        weft_control_close(result->children[i]);
    weft_free(result->alive);
    *result = (weft_meeting_result){ .parent = -1, .children = { -1, -1, -1, -1 } };
}

static weft_status send_join(const weft_guest *guest, int meeting, uint64_t token)
{
    int64_t left_ms = guest->deadline_ns == WEFT_NEVER ? -1 : (guest->deadline_ns - weft_now_ns()) / WEFT_NS_PER_MS;
    weft_join join = { .version = WEFT_CONTROL_VERSION, .rank = (uint32_t)guest->rank, .size = (uint32_t)guest->size,
                       .pid = (uint32_t)getpid(), .timeout_ms = left_ms < 0 && guest->deadline_ns != WEFT_NEVER ? 0 : left_ms,
                       .token = token, .listen = guest->listen };
    uint8_t bytes[WEFT_JOIN_BYTES];
    weft_join_encode(&join, bytes);
    weft_control_no_delay(meeting);
    /* A server that is just ending has greeted and gone: the next one may come. */
    return weft_control_write(meeting, bytes, sizeof bytes, guest->deadline_ns) ? WEFT_OK : WEFT_IN_PROGRESS;
}

static weft_status take_assignment(const weft_assign *assign, weft_meeting_result *result)
{
    result->job = assign->job;
    result->rank = (int)assign->rank;
    result->size = (int)assign->size;
    if (assign->alive_bytes == 0)
        return WEFT_OK;
    result->alive = weft_alloc(assign->alive_bytes);
    if (result->alive == NULL)
        return weft_fail(WEFT_ERR_MEMORY, "no memory for the list of survivors");
    memcpy(result->alive, assign->alive, assign->alive_bytes);
    result->alive_bytes = assign->alive_bytes;
    return WEFT_OK;
}

/* From the join to "go". WEFT_IN_PROGRESS: to be tried again. */
static weft_status take_part(const weft_guest *guest, int meeting, weft_meeting_result *result)
{
    /* The server's verdict at the deadline says who is missing: wait a little longer for it. */
    int64_t grace_ns = guest->deadline_ns == WEFT_NEVER ? WEFT_NEVER :
                       guest->deadline_ns + (int64_t)VERDICT_GRACE_MS * WEFT_NS_PER_MS;
    weft_frame_header header;
    uint8_t *payload = NULL, frame[WEFT_FRAME_HEADER_BYTES];
    weft_assign assign;
    weft_status status = weft_meeting_receive(meeting, grace_ns, &header, &payload);
    if (status != WEFT_OK)
        return status;
    if (header.type == WEFT_FRAME_RETRY) {
        weft_free(payload);
        return WEFT_IN_PROGRESS;
    }
    if (header.type != WEFT_FRAME_ASSIGN || !weft_assign_decode(&assign, payload, header.bytes) ||
        (assign.alive == NULL && (assign.rank != (uint32_t)guest->rank || assign.size != (uint32_t)guest->size)))
        status = weft_fail(WEFT_ERR_PEER, "the meeting place sent a malformed message");
    if (status == WEFT_OK)
        status = take_assignment(&assign, result);
    if (status == WEFT_OK)
        status = weft_meeting_connect_edges(meeting, guest->listener, &assign, grace_ns, result);
    weft_free(payload);
    if (status != WEFT_OK)
        return status;
    weft_frame_encode(WEFT_FRAME_CONNECTED, 0, frame);
    if (!weft_control_write(meeting, frame, sizeof frame, grace_ns))
        return weft_fail_errno(WEFT_ERR_PEER, "the connection to the meeting place broke");
    status = weft_meeting_receive(meeting, grace_ns, &header, &payload);
    weft_free(payload);
    if (status == WEFT_OK && header.type == WEFT_FRAME_RETRY)
        return WEFT_IN_PROGRESS;
    if (status == WEFT_OK && header.type != WEFT_FRAME_GO)
        status = weft_fail(WEFT_ERR_PEER, "the meeting place sent a malformed message");
    return status;
}

/* Once greeted. What goes wrong here is told, also if the other side knows it. */
static weft_status attend(const weft_guest *guest, int meeting, uint64_t token, weft_meeting_result *result)
{
    weft_status status = send_join(guest, meeting, token);
    if (status != WEFT_OK)
        return status;
    if (guest->refusal != WEFT_OK)
        send_failure(meeting, guest->refusal, guest->reason);
    status = take_part(guest, meeting, result);
    if (status != WEFT_OK && status != WEFT_IN_PROGRESS && guest->refusal == WEFT_OK)
        send_failure(meeting, status, weft_last_error());
    return status;
}

static weft_status nobody_there(const weft_guest *guest, weft_status last, const char *reason)
{
    if (guest->once)
        return weft_fail(WEFT_ERR_PEER, "%s", reason);
    if (last != WEFT_OK && last != WEFT_IN_PROGRESS)
        return weft_fail_context(last, "cannot reach the meeting place %s in time", guest->place);
    return weft_fail(WEFT_ERR_TIMEOUT, "cannot reach the meeting place %s in time; last try: %s (is it the right address, "
                     "and does rank 0 run?)", guest->place, reason);
}

/* A place that said "come again later" may be what is left of an earlier meeting, and the right one beside it: each time
 * another one is tried first. */
static void rotate(weft_meeting_places *places, int by)
{
    for (int i = 0; places->count > 1 && i < by % places->count; i++) {
        struct sockaddr_storage first = places->address[0];
        memmove(places->address, places->address + 1, (size_t)(places->count - 1) * sizeof first);
        places->address[places->count - 1] = first;
    }
}

weft_status weft_meeting_join(const weft_guest *guest, weft_meeting_result *result)
{
    char reason[WEFT_MEETING_TEXT_BYTES] = "nothing was tried";
    int64_t pause_ms = RETRY_LEAST_MS, patience_ms = guest->patience_ms, greeting_ms = guest->greeting_patience_ms;
    weft_meeting_places places; /* not allocated: who has no memory can still say so */
    weft_status status = WEFT_OK;
    int64_t tell_at_ns = weft_deadline_ns(WEFT_MEETING_SILENCE_MS);
    bool told = false;
    int retries = 0;
    *result = (weft_meeting_result){ .parent = -1, .children = { -1, -1, -1, -1 } };
    for (;;) {
        places.count = 0;
        places.token = guest->token;
        status = guest->find(guest->context, &places, guest->deadline_ns);
        if (status != WEFT_OK && status != WEFT_IN_PROGRESS && status != WEFT_ERR_TIMEOUT)
            break;
        if (status == WEFT_OK) {
            rotate(&places, retries);
            int meeting = weft_meeting_dial(&places, guest->deadline_ns, patience_ms, greeting_ms, reason);
            if (meeting >= 0) {
                status = attend(guest, meeting, places.token, result);
                weft_control_close(meeting);
                if (status == WEFT_OK)
                    break;
                weft_meeting_release(result);
                if (status != WEFT_IN_PROGRESS || guest->once)
                    break;
                retries++;
                snprintf(reason, sizeof reason, "an earlier meeting there has just failed");
            } else if (guest->once) {
                status = nobody_there(guest, status, reason);
                break;
            } else if (greeting_ms > 0 && greeting_ms < PATIENCE_MOST_MS) {
                greeting_ms *= 2; /* perhaps it is ours and only slow */
                patience_ms *= 2;
            }
        }
        if (weft_now_ns() >= guest->deadline_ns) {
            status = nobody_there(guest, status, reason);
            break;
        }
        if (!told && weft_now_ns() >= tell_at_ns) {
            weft_log(WEFT_LOG_WARN, "the meeting place %s is not reached yet: %s; trying on (WEFT_CREATE_TIMEOUT says how long)",
                     guest->place, status == WEFT_ERR_TIMEOUT ? weft_last_error() : reason);
            told = true;
        }
        pause_until(guest->deadline_ns, pause_ms);
        pause_ms = pause_ms * 2 > RETRY_MOST_MS ? RETRY_MOST_MS : pause_ms * 2;
    }
    return status;
}

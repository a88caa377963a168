/* What the meeting's server tells its guests, how it lets go of them, and the end of a meeting that failed: everybody hears why
 * and who is to blame. */
#include "core/rendezvous_server.h"

#include <errno.h>
#include <unistd.h>

enum { LINGER_LEAST_MS = 5000, LINGER_MOST_MS = 60000 };

void weft_meeting_describe(const weft_meeting_guest *g, char *text, size_t bytes)
{
    char address[WEFT_ADDRESS_TEXT_BYTES];
    weft_control_address_text(&g->peer, address);
    if (g->join.pid != 0)
        snprintf(text, bytes, "rank %d (%s, pid %u)", (int)g->join.rank, address, g->join.pid);
    else
        snprintf(text, bytes, "rank %d (%s)", (int)g->join.rank, address);
}

void weft_meeting_drop(weft_meeting_server *s, weft_meeting_guest *g)
{
    for (weft_meeting_guest **at = &s->guests; *at != NULL; at = &(*at)->next) {
        if (*at == g) {
            *at = g->next;
            break;
        }
    }
    if (g->state == GUEST_STRANGER)
        s->strangers--;
    else if (s->by_rank != NULL && s->by_rank[g->join.rank] == g) {
        s->by_rank[g->join.rank] = NULL;
        s->joined--;
    }
    weft_control_close(g->fd);
    /* Events of this round may still point to it. */
    g->fd = -1;
    g->next = s->dropped;
    s->dropped = g;
}

void weft_meeting_drop_stranger(weft_meeting_server *s, weft_meeting_guest *g, const char *why)
{
    char address[WEFT_ADDRESS_TEXT_BYTES];
    /* Who has said nothing may be a rank that reached this place by another of its addresses too. */
    weft_log(g->have ? WEFT_LOG_WARN : WEFT_LOG_INFO, "meeting place: dropped a connection from %s: %s",
             weft_control_address_text(&g->peer, address), why);
    weft_meeting_drop(s, g);
}

/* A frame is short and the socket's buffer empty: it never has to wait for room, but for a hostile reader. */
bool weft_meeting_tell(weft_meeting_guest *g, const void *frame, size_t bytes)
{
    return weft_control_write(g->fd, frame, bytes, weft_deadline_ns(200));
}

void weft_meeting_tell_retry(weft_meeting_guest *g)
{
    uint8_t frame[WEFT_FRAME_HEADER_BYTES];
    weft_frame_encode(WEFT_FRAME_RETRY, 0, frame);
    weft_meeting_tell(g, frame, sizeof frame);
}

void weft_meeting_tell_verdict(weft_meeting_server *s, weft_meeting_guest *g)
{
    uint8_t frame[WEFT_FRAME_HEADER_BYTES + 4 + WEFT_MEETING_TEXT_BYTES];
    size_t bytes = weft_error_encode(s->status, s->text, frame, sizeof frame);
    weft_meeting_tell(g, frame, bytes);
    uint32_t rank = g->join.rank;
    if (s->told != NULL && rank < (uint32_t)s->size && (s->told[rank / 64] >> (rank % 64) & 1) == 0) {
        s->told[rank / 64] |= 1ull << (rank % 64);
        s->told_count++;
    }
}

void weft_meeting_fail(weft_meeting_server *s, weft_status status, const char *text)
{
    if (s->phase == MEETING_FAILED || s->phase == MEETING_ENDED)
        return;
    s->phase = MEETING_FAILED;
    s->status = status;
    snprintf(s->text, sizeof s->text, "%s", text);
    weft_log(WEFT_LOG_DEBUG, "meeting place: failed: %s", text);
    int64_t now = weft_now_ns(), least = now + (int64_t)LINGER_LEAST_MS * WEFT_NS_PER_MS;
    int64_t most = now + (int64_t)LINGER_MOST_MS * WEFT_NS_PER_MS;
    s->deadline_ns = s->deadline_ns < least ? least : s->deadline_ns > most ? most : s->deadline_ns;
    for (weft_meeting_guest *g = s->guests, *next; g != NULL; g = next) {
        next = g->next;
        if (g->state != GUEST_STRANGER) {
            weft_meeting_tell_verdict(s, g);
            weft_meeting_drop(s, g);
        }
    }
    atomic_store_explicit(&s->failed, true, memory_order_relaxed);
}

void weft_meeting_out_of_memory(weft_meeting_server *s)
{
    char text[80];
    snprintf(text, sizeof text, "the meeting place (%spid %d) ran out of memory", s->of_rank_0 ? "rank 0, " : "", (int)getpid());
    weft_meeting_fail(s, WEFT_ERR_MEMORY, text);
}

/* Shrink: somebody died meanwhile; everybody else begins again. */
void weft_meeting_begin_again(weft_meeting_server *s)
{
    s->phase = MEETING_JOINING;
    for (weft_meeting_guest *g = s->guests, *next; g != NULL; g = next) {
        next = g->next;
        if (g->state != GUEST_STRANGER) {
            int rank = (int)g->join.rank;
            weft_meeting_tell_retry(g);
            weft_meeting_drop(s, g);
            weft_meeting_probe_again(s, rank);
        }
    }
}

void weft_meeting_guest_gone(weft_meeting_server *s, weft_meeting_guest *g, const char *why)
{
    char who[160], text[WEFT_MEETING_TEXT_BYTES];
    if (g->state == GUEST_STRANGER) {
        weft_meeting_drop_stranger(s, g, why);
        return;
    }
    weft_meeting_describe(g, who, sizeof who);
    int rank = (int)g->join.rank;
    weft_meeting_drop(s, g);
    if (s->survivors) {
        weft_meeting_absent(s, rank);
        weft_meeting_begin_again(s);
        return;
    }
    snprintf(text, sizeof text, "%s left before the group was complete: %s", who, why);
    weft_meeting_fail(s, WEFT_ERR_PEER, text);
}

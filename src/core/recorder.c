/* The flight recorder: the last collectives of a communicator, their state, and who is waited for. */
#include "core/comm.h"

weft_record *weft_record_begin(weft_comm *c, const weft_fingerprint *f, uint32_t sequence, size_t bytes)
{
    weft_record *r = &c->records[sequence % WEFT_RECORDS];
    *r = (weft_record){.sequence = sequence, .used = true, .began_ns = weft_now_ns(), .fingerprint = *f, .bytes = bytes};
    return r;
}

void weft_record_short(weft_comm *c, const weft_fingerprint *f, uint32_t sequence, size_t bytes)
{
    c->records[sequence % WEFT_RECORDS] =
        (weft_record){.sequence = sequence, .used = true, .over = true, .status = WEFT_OK, .fingerprint = *f, .bytes = bytes};
}

static void dump_record(const weft_record *r, int64_t now, FILE *stream)
{
    char call[160];
    weft_fingerprint_text(&r->fingerprint, call, sizeof call);
    double began = (double)(now - r->began_ns) / 1e6;
    if (r->over && !r->began_ns)
        fprintf(stream, "  %8u  %s (%zu bytes): %s, at once\n", r->sequence, call, r->bytes, weft_status_text(r->status));
    else if (r->over)
        fprintf(stream, "  %8u  %s (%zu bytes): %s, began %.1f ms ago, took %.3f ms\n", r->sequence, call, r->bytes,
                weft_status_text(r->status), began, (double)(r->ended_ns - r->began_ns) / 1e6);
    else
        fprintf(stream, "  %8u  %s (%zu bytes): under way for %.1f ms\n", r->sequence, call, r->bytes, began);
}

void weft_record_dump(weft_comm *c, FILE *stream)
{
    int64_t now = weft_now_ns();
    weft_status error = (weft_status)atomic_load(&c->error);
    fprintf(stream, "weft flight recorder: communicator %u, rank %d of %d, %s%s%s\n", c->client.comm, c->rank, c->ranks,
            weft_status_text(error), error == WEFT_OK ? "" : ": ", error == WEFT_OK ? "" : c->error_text);
    for (uint32_t i = 0; i < WEFT_RECORDS; i++) { /* oldest first */
        const weft_record *r = &c->records[(c->exec.next_sequence + i) % WEFT_RECORDS];
        if (r->used)
            dump_record(r, now, stream);
    }
    for (const weft_request *r = c->requests; r; r = r->next) {
        char what[256];
        int waited;
        if (!r->execution)
            continue;
        weft_execution_describe(r->execution, what, sizeof what, &waited);
        fprintf(stream, "  collective %u is at %s", r->execution->sequence, what);
        if (waited >= 0)
            fprintf(stream, "; waits for rank %d", c->from_world[waited]);
        fprintf(stream, "\n");
    }
    fflush(stream);
}

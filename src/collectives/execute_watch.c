/* What the executor says when something is wrong: errors, ranks that do not agree, and asking when nothing moves. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "collectives/execute.h"

/* ---- errors ------------------------------------------------------------------------------------ */

void weft_exec_fail(weft_exec *e, weft_status status, int world_rank, const char *format, ...)
{
    if (e->error != WEFT_OK)
        return;
    e->error = status;
    char text[512];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    if (e->fail)
        e->fail(e->context, status, world_rank, text);
}

void weft_fingerprint_text(const weft_fingerprint *f, char *text, size_t bytes)
{
    const char *op = f->op < WEFT_OP_COUNT ? weft_op_name(f->op) : "user operation";
    bool reduces = f->collective == WEFT_ALL_REDUCE || f->collective == WEFT_REDUCE || f->collective == WEFT_REDUCE_SCATTER;
    snprintf(text, bytes, "%s of %llu %s%s%s root %d by %s", weft_collective_name(f->collective),
             (unsigned long long)f->count, weft_type_name(f->type), reduces ? " " : "", reduces ? op : "", f->root,
             weft_algorithm_name(f->algorithm));
}

void weft_exec_mismatch(weft_exec *e, uint32_t sequence, const weft_fingerprint *mine, int peer_world,
                        const weft_fingerprint *theirs)
{
    char a[160], b[160];
    weft_fingerprint_text(mine, a, sizeof a);
    weft_fingerprint_text(theirs, b, sizeof b);
    weft_exec_fail(e, WEFT_ERR_MISMATCH, peer_world, "collective %u: rank %d calls %s, rank %d calls %s", sequence, e->rank, a,
                   e->from_world[peer_world], b);
}

/* ---- when nothing moves ------------------------------------------------------------------------ */

/* What a rank of this host announced as that collective; false: it is gone, or not there yet. */
static bool read_board(const weft_exec *e, int rank, uint32_t sequence, weft_fingerprint *theirs)
{
    weft_local_board *b = &e->regions[e->local_position[rank]]->board[sequence % WEFT_BOARDS];
    uint64_t seen = atomic_load_explicit(&b->sequence, memory_order_acquire), words[2];
    words[0] = atomic_load_explicit(&b->words[0], memory_order_acquire);
    words[1] = atomic_load_explicit(&b->words[1], memory_order_acquire);
    if (seen != (uint64_t)sequence + 1 || atomic_load_explicit(&b->sequence, memory_order_relaxed) != seen)
        return false;
    memcpy(theirs, words, sizeof *theirs);
    return true;
}

/* In the collectives before it neither waited for the other: the board has those that are not long ago. */
void weft_exec_mismatch_before(weft_exec *e, uint32_t sequence, int rank)
{
    weft_fingerprint theirs;
    for (uint32_t back = 1; back < WEFT_BOARDS && back <= sequence; back++) {
        const weft_fingerprint *mine = &e->history[(sequence - back) % WEFT_HISTORY];
        if (read_board(e, rank, sequence - back, &theirs) && !weft_fingerprint_same(mine, &theirs)) {
            weft_exec_mismatch(e, sequence - back, mine, e->world[rank], &theirs);
            return;
        }
    }
    weft_exec_fail(e, WEFT_ERR_MISMATCH, e->world[rank], "rank %d and rank %d made different calls before collective %u", e->rank,
                   rank, sequence);
}

static void compare_board(weft_exec *e, const weft_execution *x, int rank)
{
    weft_fingerprint theirs;
    if (read_board(e, rank, x->sequence, &theirs) && !weft_fingerprint_same(&theirs, &x->fingerprint))
        weft_exec_mismatch(e, x->sequence, &x->fingerprint, e->world[rank], &theirs);
}

void weft_exec_nudge(weft_exec *e)
{
    for (weft_execution *x = e->active; x && e->error == WEFT_OK; x = x->next) {
        for (uint32_t lane = 0; lane < x->ready->schedule->lanes; lane++)
            for (int d = 0; d < WEFT_DEPTH; d++) {
                weft_task *t = &x->tasks[lane][d];
                const weft_step *step = t->active ? weft_task_step(t) : NULL;
                if (step && weft_step_receives(step) && t->entered && !t->asked && t->landed == t->announced)
                    weft_task_ask(t, step);
            }
        for (int i = 0; e->regions && i < e->local_count && e->error == WEFT_OK; i++)
            compare_board(e, x, e->local_ranks[i]);
    }
}

/* A rank of this host that has not begun the collective, -1: all have. The one waited for may itself wait for it. */
static int absent_here(const weft_exec *e, const weft_execution *x)
{
    for (int i = 0; e->regions && i < e->local_count; i++) {
        const weft_local_board *b = &e->regions[i]->board[x->sequence % WEFT_BOARDS];
        if (atomic_load_explicit(&b->sequence, memory_order_acquire) < (uint64_t)x->sequence + 1)
            return e->local_ranks[i];
    }
    return -1;
}

/* The rank that is furthest behind among those that have not left a part of a slot; -1: all have. */
static int furthest_behind(const weft_exec *e, uint64_t local_sequence, uint32_t lane, size_t depth, uint64_t mark)
{
    int rank = -1;
    uint64_t least = mark;
    for (int i = 0; i < e->local_count; i++) {
        uint64_t done = atomic_load_explicit(&e->regions[i]->done[lane][depth][local_sequence % WEFT_LOCAL_SLOTS].value,
                                             memory_order_acquire);
        if (e->local_ranks[i] != e->rank && done < least) {
            least = done;
            rank = e->local_ranks[i];
        }
    }
    return rank;
}

/* Who still uses the shared memory that a task waits to use: of this collective's earlier tile, or of an earlier collective. */
static int waits_behind(const weft_execution *x, const weft_task *t)
{
    int rank = -1;
    if (!x->gated)
        return furthest_behind(x->exec, x->local_sequence, t->lane, t->tile % WEFT_DEPTH,
                               weft_mark(x->local_sequence, t->tile / WEFT_DEPTH, 0));
    for (const weft_gate *g = x->gates; g < x->gates + 2; g++)
        for (uint32_t lane = 0; rank < 0 && g->local_sequence && lane < WEFT_LANES_MAX; lane++)
            for (size_t d = 0; rank < 0 && d < WEFT_DEPTH; d++)
                rank = furthest_behind(x->exec, g->local_sequence, lane, d, g->marks[lane][d]);
    return rank;
}

void weft_execution_describe(const weft_execution *x, char *text, size_t bytes, int *world_rank)
{
    *world_rank = -1;
    snprintf(text, bytes, "queued behind other collectives");
    if (!x->active)
        return;
    snprintf(text, bytes, "finishing");
    for (uint32_t lane = 0; lane < x->ready->schedule->lanes; lane++)
        for (int d = 0; d < WEFT_DEPTH; d++) {
            const weft_task *t = &x->tasks[lane][d];
            if (!t->active)
                continue;
            const weft_step *step = weft_task_step(t);
            int peer = -1;
            if (t->gated || x->gated)
                peer = waits_behind(x, t);
            else if (step && (weft_step_receives(step) || step->kind == WEFT_STEP_WAIT))
                peer = step->from;
            else if (t->open < t->begun)
                peer = x->ready->schedule->lane[lane].steps[x->ready->sends[lane][t->open].step].to;
            char what[160] = "its last sends";
            if (step)
                weft_step_text(x->ready->schedule, lane, t->step, what, sizeof what);
            snprintf(text, bytes, "tile %zu %s%s", t->tile, what, t->gated || x->gated ? " (shared memory still in use)" : "");
            int absent = peer >= 0 ? absent_here(x->exec, x) : -1;
            if (absent >= 0)
                peer = absent;
            if (peer >= 0) {
                *world_rank = x->exec->world[peer];
                return;
            }
        }
}

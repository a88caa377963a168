/* An MPI program that knows nothing of Weft: random collectives of every kind, type, operation, layout, root and form on
 * several communicators, the same sequence on all ranks. Writes a line for each call with a digest of its result, so that two
 * runs can be compared. In the run to compare with all calls block: the nonblocking ones of both MPIs have faults of their own.
 * Usage: mpi_random SEED ROUNDS FILE-PREFIX [blocking] */
#include <mpi.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_RANKS = 16, ROOM = 1 << 17, COMMS = 6, KINDS = 15, MOST_OPEN = 6 };

static uint64_t state;
static bool all_block;
static FILE *out;

/* The same numbers on all ranks. */
static unsigned pick(unsigned below)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(state >> 33) % below;
}

static uint64_t digest(const void *data, size_t bytes)
{
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ ((const unsigned char *)data)[i]) * 1099511628211u;
    return hash;
}

static void check(int code, const char *what)
{
    if (code == MPI_SUCCESS)
        return;
    char text[MPI_MAX_ERROR_STRING];
    int length;
    MPI_Error_string(code, text, &length);
    fprintf(stderr, "%s: %s\n", what, text);
    MPI_Abort(MPI_COMM_WORLD, 1);
}

/* ---- types -------------------------------------------------------------------------------------- */

typedef struct layout { MPI_Datatype type; const char *name; } layout;

/* Types of reductions, with what fills them: small whole numbers, so that every result is exact. */
static const struct { const char *name; int kind; } numbers[] = {
    {"int", 'i'}, {"double", 'd'}, {"float", 'f'}, {"unsigned char", 'b'}, {"long", 'l'}, {"short", 's'}, {"double complex", 'z'},
    {"char", 'c'}, {"long double", 'L'}, {"bool", 'o'}, {"double int", 'p'}, {"byte", 'y'}};
enum { NUMBERS = sizeof numbers / sizeof *numbers };

static MPI_Datatype number_type(int index)
{
    switch (numbers[index].kind) {
    case 'i': return MPI_INT;
    case 'd': return MPI_DOUBLE;
    case 'f': return MPI_FLOAT;
    case 'b': return MPI_UNSIGNED_CHAR;
    case 'c': return MPI_CHAR;
    case 'l': return MPI_LONG;
    case 's': return MPI_SHORT;
    case 'z': return MPI_C_DOUBLE_COMPLEX;
    case 'L': return MPI_LONG_DOUBLE;
    case 'o': return MPI_C_BOOL;
    case 'p': return MPI_DOUBLE_INT;
    default: return MPI_BYTE;
    }
}

static void fill_numbers(char *buffer, int index, size_t count, int salt)
{
    for (size_t i = 0; i < count; i++) {
        int value = (int)((i * 7 + (size_t)salt * 5) % 3);
        switch (numbers[index].kind) {
        case 'i': ((int *)buffer)[i] = value; break;
        case 'd': ((double *)buffer)[i] = value; break;
        case 'f': ((float *)buffer)[i] = (float)value; break;
        case 'l': ((long *)buffer)[i] = value; break;
        case 's': ((short *)buffer)[i] = (short)value; break;
        case 'z': ((double *)buffer)[2 * i] = value, ((double *)buffer)[2 * i + 1] = 1; break;
        case 'L': ((long double *)buffer)[i] = value; break;
        case 'o': ((bool *)buffer)[i] = value != 0; break;
        case 'p':
            ((struct { double value; int index; } *)buffer)[i].value = value;
            ((struct { double value; int index; } *)buffer)[i].index = salt;
            break;
        default: ((unsigned char *)buffer)[i] = (unsigned char)value;
        }
    }
}

static void user_sum(void *in, void *inout, int *count, MPI_Datatype *type)
{
    (void)type;
    for (int i = 0; i < *count; i++)
        ((int *)inout)[i] += ((int *)in)[i];
}

/* An operation that goes with the type; MPI_OP_NULL: take another type. */
static MPI_Op pick_op(int index, MPI_Op user)
{
    const MPI_Op all[] = {MPI_SUM, MPI_PROD, MPI_MAX, MPI_MIN, MPI_LAND, MPI_LOR, MPI_LXOR, MPI_BAND, MPI_BOR, MPI_BXOR};
    unsigned which = pick(10);
    switch (numbers[index].kind) {
    case 'i': return pick(8) == 0 ? user : all[which];
    case 'b': case 'l': case 's': case 'c': return all[which];
    case 'd': case 'f': case 'L': return all[which % 4];
    case 'z': return all[which % 2];
    case 'o': return all[4 + which % 3];
    case 'p': return which % 2 ? MPI_MINLOC : MPI_MAXLOC;
    default: return all[7 + which % 3];
    }
}

/* Layouts of 24 bytes of data each: ranks may differ in them, as their signatures are the same six ints. */
enum { LAYOUTS = 9 };
static layout layouts[LAYOUTS];

static void make_layouts(void)
{
    MPI_Datatype strided, couple;
    int lengths[] = {2, 4}, places[] = {7, 1};
    MPI_Aint addresses[] = {4 * 5, 4 * 1};
    MPI_Datatype pair[] = {MPI_INT, MPI_INT};
    MPI_Type_contiguous(6, MPI_INT, &layouts[0].type);
    MPI_Type_vector(3, 2, 3, MPI_INT, &layouts[1].type);
    MPI_Type_indexed(2, lengths, places, MPI_INT, &layouts[2].type);
    MPI_Type_create_struct(2, lengths, addresses, pair, &layouts[3].type); /* as contiguous by size, but backwards */
    MPI_Type_vector(6, 1, 2, MPI_INT, &strided);
    MPI_Type_create_resized(strided, 0, 12 * 4, &layouts[4].type);
    MPI_Type_free(&strided);
    MPI_Type_dup(layouts[0].type, &layouts[5].type);
    int ordered[] = {2, 0, 4}; /* without gaps, in order */
    MPI_Aint ordered_addresses[] = {0, 100, 4 * 2};
    MPI_Datatype ordered_types[] = {MPI_INT, MPI_CHAR, MPI_INT};
    MPI_Type_create_struct(3, ordered, ordered_addresses, ordered_types, &layouts[6].type);
    MPI_Type_vector(3, 2, 2, MPI_INT, &layouts[7].type);
    MPI_Type_contiguous(2, MPI_INT, &couple);
    MPI_Type_contiguous(3, couple, &layouts[8].type);
    MPI_Type_free(&couple);
#if MPI_VERSION >= 4 /* some by large-count constructors */
    MPI_Count large_lengths[] = {4, 2};
    MPI_Count large_addresses[] = {0, 4 * 4};
    for (int i = 6; i < LAYOUTS; i++)
        MPI_Type_free(&layouts[i].type);
    MPI_Type_create_struct_c(2, large_lengths, large_addresses, pair, &layouts[6].type);
    MPI_Type_vector_c(2, 3, 3, MPI_INT, &layouts[7].type);
    MPI_Type_contiguous_c(6, MPI_INT, &layouts[8].type);
#endif
    for (int i = 0; i < LAYOUTS; i++)
        MPI_Type_commit(&layouts[i].type);
}

/* ---- one call ----------------------------------------------------------------------------------- */

typedef struct call {
    int kind, count, number, root, round;
    bool in_place;
    MPI_Op op;
    MPI_Datatype send_type, recv_type; /* of data movement */
    MPI_Comm comm;
    int rank, size;
    int counts[MOST_RANKS], displs[MOST_RANKS], send_counts[MOST_RANKS], send_displs[MOST_RANKS];
    MPI_Count large_counts[2 * MOST_RANKS]; /* of receiving, then of sending */
    MPI_Aint large_displs[2 * MOST_RANKS];
    char *send, *recv; /* allocations; the data begin in the middle of recv, as displacements may be negative */
    size_t send_bytes, recv_bytes;
} call;

static const char *const names[KINDS] = {"barrier", "bcast", "reduce", "allreduce", "reduce_scatter_block", "reduce_scatter",
    "gather", "gatherv", "scatter", "scatterv", "allgather", "allgatherv", "alltoall", "alltoallv", "scan"};

static bool is_reduction(int kind) { return (kind >= 2 && kind <= 5) || kind == 14; }

static void set_vectors(call *c)
{
    int place = 0;
    for (int r = c->size - 1; r >= 0; r--) { /* backwards, with gaps, from below zero */
        c->counts[r] = (c->count + r * 3) % 7;
        c->displs[r] = place - 5;
        place += c->counts[r] + 1;
    }
    place = 0;
    for (int r = 0; r < c->size; r++) { /* what I send to r; r receives (count + me + r) % 5 from me */
        c->send_counts[r] = (c->count + c->rank + r) % 5;
        c->send_displs[r] = place;
        place += c->send_counts[r] + 1;
    }
    if (c->kind == 13) {
        place = 0;
        for (int r = 0; r < c->size; r++) {
            c->counts[r] = (c->count + c->rank + r) % 5;
            c->displs[r] = place - 4;
            place += c->counts[r];
        }
    }
}

/* MPICH 4.0's own nonblocking and persistent collectives fail now and then when several are under way ("invalid communicator",
 * or they never end), also without Weft: there only such are begun as Weft serves. */
#ifdef OPEN_MPI
static const bool only_served = false;
#else
static const bool only_served = true;
#endif

static void prepare(call *c, int round, MPI_Comm comm, MPI_Op user, bool blocking)
{
    memset(c, 0, sizeof *c);
    bool careful = only_served && !blocking;
    if (careful && comm == MPI_COMM_SELF)
        comm = MPI_COMM_WORLD;
    c->round = round;
    c->comm = comm;
    MPI_Comm_rank(comm, &c->rank);
    MPI_Comm_size(comm, &c->size);
    c->kind = (int)pick(careful ? KINDS - 1 : KINDS);
    c->root = (int)pick(1000) % c->size;
    const int sizes[] = {0, 1, 2, 3, 17, 100, 700};
    c->count = sizes[pick(7)];
    c->in_place = pick(3) == 0;
#ifndef OPEN_MPI
    c->in_place = c->in_place && c->kind != 2; /* MPICH 4.0 crashes in place with a root that is not 0 */
#endif
    c->number = (int)pick(careful ? 6 : NUMBERS);
    c->op = pick_op(c->number, careful ? MPI_SUM : user);
    /* A reduction's type is one for all; the layouts of the others may differ from rank to rank. */
    bool mixed = pick(2);
    unsigned one = pick(LAYOUTS), two = pick(LAYOUTS);
    c->send_type = layouts[mixed ? (one + (unsigned)c->rank) % LAYOUTS : one].type;
    c->recv_type = layouts[mixed ? (two + (unsigned)c->rank) % LAYOUTS : two].type;
    if (c->kind == 5)
        c->count %= 8;
    else if (!is_reduction(c->kind) && c->count > 100)
        c->count = 100;
    set_vectors(c);
    c->send_bytes = c->recv_bytes = ROOM;
    c->send = calloc(1, ROOM);
    c->recv = calloc(1, ROOM);
    if (!c->send || !c->recv)
        MPI_Abort(MPI_COMM_WORLD, 1);
    if (is_reduction(c->kind)) {
        size_t total = (size_t)c->count * (c->kind == 4 ? (size_t)c->size : 1) + 64;
        fill_numbers(c->send, c->number, total, c->rank + round);
        fill_numbers(c->recv, c->number, total, c->in_place ? c->rank + round : 1);
    } else {
        for (int i = 0; i < ROOM / 4; i++) {
            ((int *)c->send)[i] = i * 31 + c->rank * 1000 + round;
            ((int *)c->recv)[i] = c->in_place ? i * 17 + c->rank * 100 + round : -1;
        }
    }
}

enum form { BLOCKING, NONBLOCKING, PERSISTENT };

#if MPI_VERSION >= 4 || (defined OMPI_MAJOR_VERSION && OMPI_MAJOR_VERSION >= 5)
#define FORMS 3
#define IN_FORM(name, lower, ...)                                                          \
    (form == BLOCKING      ? MPI_##name(__VA_ARGS__)                                       \
     : form == NONBLOCKING ? MPI_I##lower(__VA_ARGS__, request)                            \
                           : MPI_##name##_init(__VA_ARGS__, MPI_INFO_NULL, request))
#else
#define FORMS 2
#define IN_FORM(name, lower, ...) (form == BLOCKING ? MPI_##name(__VA_ARGS__) : MPI_I##lower(__VA_ARGS__, request))
#endif

static int begin(const call *c, enum form form, MPI_Request *request)
{
    char *to = is_reduction(c->kind) ? c->recv : c->recv + ROOM / 4;
    const void *from = c->send;
    MPI_Datatype number = number_type(c->number), st = c->send_type, rt = c->recv_type;
    int n = c->count;
    bool at_root = c->rank == c->root;
    if (c->in_place && c->kind != 6 && c->kind != 7 && c->kind != 2)
        from = MPI_IN_PLACE;
    const void *from_at_root = c->in_place && at_root ? MPI_IN_PLACE : c->send;
    void *to_at_root = c->in_place && at_root ? MPI_IN_PLACE : to;
    switch (c->kind) {
    case 0: return IN_FORM(Barrier, barrier, c->comm);
    case 1: return IN_FORM(Bcast, bcast, to, n, rt, c->root, c->comm);
    case 2: return IN_FORM(Reduce, reduce, from_at_root, to, n, number, c->op, c->root, c->comm);
    case 3: return IN_FORM(Allreduce, allreduce, from, to, n, number, c->op, c->comm);
    case 4: return IN_FORM(Reduce_scatter_block, reduce_scatter_block, from, to, n, number, c->op, c->comm);
    case 5: return IN_FORM(Reduce_scatter, reduce_scatter, from, to, c->counts, number, c->op, c->comm);
    case 6: return IN_FORM(Gather, gather, from_at_root, n, st, to, n, rt, c->root, c->comm);
    case 7:
        return IN_FORM(Gatherv, gatherv, from_at_root, c->counts[c->rank], st, to, c->counts, c->displs, rt, c->root, c->comm);
    case 8: return IN_FORM(Scatter, scatter, c->send, n, st, to_at_root, n, rt, c->root, c->comm);
    case 9:
        return IN_FORM(Scatterv, scatterv, c->send + ROOM / 4, c->counts, c->displs, st, to_at_root, c->counts[c->rank], rt,
                       c->root, c->comm);
    case 10: return IN_FORM(Allgather, allgather, from, n, st, to, n, rt, c->comm);
    case 11: return IN_FORM(Allgatherv, allgatherv, from, c->counts[c->rank], st, to, c->counts, c->displs, rt, c->comm);
    case 12: return IN_FORM(Alltoall, alltoall, from, n, st, to, n, rt, c->comm);
    case 13:
        return IN_FORM(Alltoallv, alltoallv, from, c->send_counts, c->send_displs, st, to, c->counts, c->displs, rt, c->comm);
    default: return IN_FORM(Scan, scan, from, to, n, number, c->op, c->comm);
    }
}

#if MPI_VERSION >= 4
#define IN_LARGE_FORM(name, lower, ...)                                                    \
    (form == BLOCKING      ? MPI_##name##_c(__VA_ARGS__)                                   \
     : form == NONBLOCKING ? MPI_I##lower##_c(__VA_ARGS__, request)                        \
                           : MPI_##name##_init_c(__VA_ARGS__, MPI_INFO_NULL, request))

/* The same by the large-count functions. */
static int begin_large(call *c, enum form form, MPI_Request *request)
{
    char *to = is_reduction(c->kind) ? c->recv : c->recv + ROOM / 4;
    const void *from = c->in_place && c->kind != 2 ? MPI_IN_PLACE : c->send;
    MPI_Datatype number = number_type(c->number), st = c->send_type, rt = c->recv_type;
    MPI_Count n = c->count, *counts = c->large_counts, *send_counts = counts + MOST_RANKS;
    MPI_Aint *displs = c->large_displs, *send_displs = displs + MOST_RANKS;
    for (int r = 0; r < c->size; r++) {
        counts[r] = c->counts[r], displs[r] = c->displs[r];
        send_counts[r] = c->send_counts[r], send_displs[r] = c->send_displs[r];
    }
    bool at_root = c->rank == c->root;
    const void *from_at_root = c->in_place && at_root ? MPI_IN_PLACE : c->send;
    void *to_at_root = c->in_place && at_root ? MPI_IN_PLACE : to;
    switch (c->kind) {
    case 1: return IN_LARGE_FORM(Bcast, bcast, to, n, rt, c->root, c->comm);
    case 2: return IN_LARGE_FORM(Reduce, reduce, from_at_root, to, n, number, c->op, c->root, c->comm);
    case 3: return IN_LARGE_FORM(Allreduce, allreduce, from, to, n, number, c->op, c->comm);
    case 4: return IN_LARGE_FORM(Reduce_scatter_block, reduce_scatter_block, from, to, n, number, c->op, c->comm);
    case 5: return IN_LARGE_FORM(Reduce_scatter, reduce_scatter, from, to, counts, number, c->op, c->comm);
    case 6: return IN_LARGE_FORM(Gather, gather, from_at_root, n, st, to, n, rt, c->root, c->comm);
    case 7: return IN_LARGE_FORM(Gatherv, gatherv, from_at_root, counts[c->rank], st, to, counts, displs, rt, c->root, c->comm);
    case 8: return IN_LARGE_FORM(Scatter, scatter, c->send, n, st, to_at_root, n, rt, c->root, c->comm);
    case 9:
        return IN_LARGE_FORM(Scatterv, scatterv, c->send + ROOM / 4, counts, displs, st, to_at_root, counts[c->rank], rt, c->root,
                             c->comm);
    case 10: return IN_LARGE_FORM(Allgather, allgather, from, n, st, to, n, rt, c->comm);
    case 11: return IN_LARGE_FORM(Allgatherv, allgatherv, from, counts[c->rank], st, to, counts, displs, rt, c->comm);
    case 12: return IN_LARGE_FORM(Alltoall, alltoall, from, n, st, to, n, rt, c->comm);
    case 13: return IN_LARGE_FORM(Alltoallv, alltoallv, from, send_counts, send_displs, st, to, counts, displs, rt, c->comm);
    case 14: return IN_LARGE_FORM(Scan, scan, from, to, n, number, c->op, c->comm);
    default: return begin(c, form, request);
    }
}
#endif

static int begin_one(call *c, enum form form, MPI_Request *request)
{
#if MPI_VERSION >= 4
    if (c->round % 2 == 1)
        return begin_large(c, form, request);
#endif
    return begin(c, form, request);
}

static void end(call *c, const char *form)
{
    /* Padding of a pair is nobody's; of what is not a result MPI promises nothing after reduce_scatter in place. */
    if (numbers[c->number].kind == 'p' && is_reduction(c->kind))
        for (int i = 0; i < ROOM / 16; i++)
            memset(c->recv + 16 * i + 12, 0, 4);
    if (numbers[c->number].kind == 'L' && is_reduction(c->kind))
        for (int i = 0; i < ROOM / 16; i++)
            memset(c->recv + 16 * i + 10, 0, 6);
    int size = 0;
    MPI_Type_size(number_type(c->number), &size);
    size_t bytes = c->recv_bytes;
    if ((c->kind == 4 || c->kind == 5) && c->in_place)
        bytes = (size_t)(c->kind == 4 ? c->count : c->counts[c->rank]) * (size_t)(numbers[c->number].kind == 'p' ? 16 : size);
    fprintf(out, "%d %s %s rank %d of %d count %d type %s in place %d root %d: %016llx\n", c->round, names[c->kind], form,
            c->rank, c->size, c->count, is_reduction(c->kind) ? numbers[c->number].name : "layout", c->in_place, c->root,
            (unsigned long long)digest(c->recv, bytes));
    free(c->send);
    free(c->recv);
}

/* ---- several calls under way, with messages between them ------------------------------------------ */

static int wait_in_some_way(MPI_Request *requests, int count)
{
    int index, done, indices[2 * MOST_OPEN + 2];
    switch (pick(6)) {
    case 0: return MPI_Waitall(count, requests, MPI_STATUSES_IGNORE);
    case 1:
        for (int i = count - 1; i >= 0; i--)
            check(MPI_Wait(&requests[i], MPI_STATUS_IGNORE), "MPI_Wait");
        return MPI_SUCCESS;
    case 2:
        do
            check(MPI_Waitany(count, requests, &index, MPI_STATUS_IGNORE), "MPI_Waitany");
        while (index != MPI_UNDEFINED);
        return MPI_SUCCESS;
    case 3:
        do
            check(MPI_Waitsome(count, requests, &done, indices, MPI_STATUSES_IGNORE), "MPI_Waitsome");
        while (done != MPI_UNDEFINED);
        return MPI_SUCCESS;
    case 4:
        do
            check(MPI_Testall(count, requests, &done, MPI_STATUSES_IGNORE), "MPI_Testall");
        while (!done);
        return MPI_SUCCESS;
    default:
        for (int i = 0; i < count; i++) {
            do
                check(MPI_Test(&requests[i], &done, MPI_STATUS_IGNORE), "MPI_Test");
            while (!done);
        }
        return MPI_SUCCESS;
    }
}

static void run_open(int round, MPI_Comm *comms, MPI_Op user, char *message, enum form form)
{
    call calls[MOST_OPEN];
    MPI_Request requests[2 * MOST_OPEN + 2];
    int count = 1 + (int)pick(MOST_OPEN), n = 0, rank, size;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    bool messages = pick(2);
    for (int i = 0; i < count; i++) {
        MPI_Comm comm = comms[pick(COMMS)];
        prepare(&calls[i], round, comm, user, false);
#if FORMS == 3
        if (form == PERSISTENT && calls[i].kind == 14)
            calls[i].kind = 0; /* two starts of a scan in place are not the same */
        if (form == PERSISTENT)
            calls[i].in_place = false;
#endif
        requests[n] = MPI_REQUEST_NULL;
        check(begin_one(&calls[i], all_block ? BLOCKING : form, &requests[n]), names[calls[i].kind]);
        n++;
    }
    int collectives = n;
    for (int turn = 0; turn < (form == PERSISTENT ? 2 : 1); turn++) {
        n = collectives;
        /* Each rank starts with another one, which MPI allows. */
        for (int i = 0; i < n && form == PERSISTENT && !all_block; i++)
            check(turn ? MPI_Start(&requests[(i + rank) % n]) : MPI_Startall(1, &requests[(i + rank) % n]), "MPI_Start");
        if (messages) {
            MPI_Irecv(message, ROOM, MPI_BYTE, (rank + size - 1) % size, round, MPI_COMM_WORLD, &requests[n++]);
            MPI_Isend(message + ROOM, ROOM, MPI_BYTE, (rank + 1) % size, round, MPI_COMM_WORLD, &requests[n++]);
        }
        check(wait_in_some_way(requests, n), "waiting");
    }
    for (int i = 0; i < collectives && form == PERSISTENT && !all_block; i++)
        MPI_Request_free(&requests[i]);
    for (int i = 0; i < count; i++)
        end(&calls[i], form == PERSISTENT ? "persistent" : "nonblocking");
}

/* Ranks that wait in the MPI for one that waits in Weft, and the other way round. */
static void wait_for_each_other(int rank, int size, char *message)
{
    int one = 1, sum = 0, token = rank;
    MPI_Request request;
    MPI_Status status;
    MPI_Barrier(MPI_COMM_WORLD);
    /* Rank 0 sends only when its collective is done; the others receive before they wait for theirs. */
    MPI_Iallreduce(&one, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD, &request);
    if (rank == 0) {
        MPI_Wait(&request, MPI_STATUS_IGNORE);
        for (int r = 1; r < size; r++)
            MPI_Send(&sum, 1, MPI_INT, r, 1, MPI_COMM_WORLD);
    } else if (rank == 1) {
        MPI_Probe(0, 1, MPI_COMM_WORLD, &status);
        MPI_Recv(&token, 1, MPI_INT, 0, 1, MPI_COMM_WORLD, &status);
        MPI_Wait(&request, MPI_STATUS_IGNORE);
    } else {
        MPI_Recv(&token, 1, MPI_INT, 0, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        MPI_Wait(&request, MPI_STATUS_IGNORE);
    }
    /* Rank 0 is in the barrier while a message that needs its hand is under way. */
    request = MPI_REQUEST_NULL;
    if (rank == 0)
        MPI_Isend(message + ROOM, ROOM, MPI_BYTE, size - 1, 2, MPI_COMM_WORLD, &request);
    else if (rank == size - 1)
        MPI_Recv(message, ROOM, MPI_BYTE, 0, 2, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    fprintf(out, "each other: rank %d sum %d\n", rank, sum);
    /* One that Weft does not have, while another is over on rank 0 and under way on the others. */
    int *many = (int *)message, *sums = (int *)(message + ROOM), elements = ROOM / (int)sizeof(int);
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < elements; i++)
            many[i] = i + rank + round;
        MPI_Iallreduce(many, sums, round % 2 ? 1 : elements, MPI_INT, MPI_SUM, MPI_COMM_WORLD, &request);
        if (rank == 0)
            MPI_Wait(&request, MPI_STATUS_IGNORE);
        MPI_Scan(&one, &token, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
        MPI_Wait(&request, MPI_STATUS_IGNORE);
        fprintf(out, "beside a scan: rank %d: %d %d %d\n", rank, token, sums[0], sums[round % 2 ? 0 : elements - 1]);
    }
}

/* Communicators come and go, also with an operation under way; attributes and errors are the user's. */
static void come_and_go(int rank, int size)
{
    /* The first of the other half, as both are ordered backwards. */
    int other_leader = (size - 1) % 2 == rank % 2 ? size - 2 : size - 1;
    for (int i = 0; i < 5; i++) {
        MPI_Comm comm, inter = MPI_COMM_NULL, half;
        MPI_Request request;
        int value = rank + i, sum = -1, remote = -1;
        MPI_Comm_dup(MPI_COMM_WORLD, &comm);
        MPI_Barrier(comm);
        MPI_Iallreduce(&value, &sum, 1, MPI_INT, MPI_SUM, comm, &request);
#ifdef OPEN_MPI
        /* Open MPI 4.1 crashes by itself when a communicator is freed with an operation under way. */
        MPI_Wait(&request, MPI_STATUS_IGNORE);
#endif
        MPI_Comm_free(&comm);
        MPI_Wait(&request, MPI_STATUS_IGNORE);
        MPI_Comm_split(MPI_COMM_WORLD, rank % 2, -rank, &half);
        if (i == 0) {
            MPI_Intercomm_create(half, 0, MPI_COMM_WORLD, other_leader, 7, &inter);
            MPI_Allreduce(&value, &remote, 1, MPI_INT, MPI_SUM, inter);
            MPI_Comm_free(&inter);
        }
        int high = 0;
        MPI_Allreduce(&value, &high, 1, MPI_INT, MPI_MAX, half);
        MPI_Comm_free(&half);
        fprintf(out, "come and go %d: %d %d %d\n", i, sum, remote, high);
    }
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    int code = MPI_Bcast(&rank, 1, MPI_INT, 100000, MPI_COMM_WORLD), class = 0;
    MPI_Error_class(code, &class);
    fprintf(out, "wrong root: %d\n", class == MPI_ERR_ROOT);
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    if (argc < 4)
        MPI_Abort(MPI_COMM_WORLD, 2);
    int rank, size, rounds = (int)strtol(argv[2], NULL, 10);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    char path[4096];
    snprintf(path, sizeof path, "%s.%d", argv[3], rank);
    out = fopen(path, "w");
    if (!out || size > MOST_RANKS)
        MPI_Abort(MPI_COMM_WORLD, 2);
    state = strtoull(argv[1], NULL, 10);
    all_block = argc > 4;
    make_layouts();
    MPI_Op user;
    MPI_Op_create(user_sum, 1, &user);
    MPI_Comm comms[COMMS] = {MPI_COMM_WORLD, MPI_COMM_WORLD, MPI_COMM_SELF};
    MPI_Comm_dup(MPI_COMM_WORLD, &comms[3]);
    MPI_Comm_split(MPI_COMM_WORLD, 0, -rank, &comms[4]);
    MPI_Comm_split(MPI_COMM_WORLD, size >= 4 || !only_served ? rank % 2 : 0, rank, &comms[5]);
    for (int i = 0; i < COMMS; i++)
        MPI_Barrier(comms[i]);
    char *message = calloc(2, ROOM);
    for (int round = 0; round < rounds; round++) {
        unsigned kind = pick(FORMS + 1);
        if (kind == 1) {
            run_open(round, comms, user, message, NONBLOCKING);
        } else if (kind == 3) {
            run_open(round, comms, user, message, PERSISTENT);
        } else {
            call c;
            prepare(&c, round, comms[pick(COMMS)], user, true);
            check(begin_one(&c, BLOCKING, NULL), names[c.kind]);
            end(&c, "blocking");
        }
    }
    if (size > 1) {
        wait_for_each_other(rank, size, message);
        come_and_go(rank, size);
    }
    free(message);
    for (int i = 3; i < COMMS; i++)
        MPI_Comm_free(&comms[i]);
    for (int i = 0; i < LAYOUTS; i++)
        MPI_Type_free(&layouts[i].type);
    MPI_Op_free(&user);
    fclose(out);
    MPI_Finalize();
    return 0;
}

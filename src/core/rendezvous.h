/* How ranks meet: a short-lived server inside one of the processes takes `size` joins, deals out the tree of the control
 * plane, and lets go when all its edges stand. Rendezvous kinds (URL, file, id, callbacks) only differ in how the
 * server's address reaches the ranks. The tree's life afterwards is control.c's. */
#ifndef WEFT_RENDEZVOUS_H
#define WEFT_RENDEZVOUS_H

#include "core/control_socket.h"

enum { WEFT_MEETING_TEXT_BYTES = 480, WEFT_TREE_FANOUT = 4 };
/* After that long without all ranks it is said, once, what is waited for. */
enum { WEFT_MEETING_SILENCE_MS = 10000 };

/* ---- shape of the tree: every subtree is a range of ranks --------------------------------------- */
typedef struct weft_tree_place {
    int parent;                          /* -1: root */
    int low, high;                       /* this subtree: [low, high), low is this rank */
    int children;
    int child[WEFT_TREE_FANOUT], child_high[WEFT_TREE_FANOUT]; /* child i's subtree: [child, child_high) */
} weft_tree_place;
void weft_tree_find(int rank, int size, weft_tree_place *place);

/* "rank 3", "ranks 3, 5-7 and 12 more": ranks whose bit is set. */
void weft_rank_list(const uint64_t *bits, int size, char *text, size_t bytes);

/* ---- server ------------------------------------------------------------------------------------- */
typedef struct weft_meeting_server weft_meeting_server;
typedef struct weft_meeting_config {
    int listener;            /* taken over, also on failure, unless `survivors` */
    int size;                /* 0: as the first join says */
    uint64_t token;          /* joins with another one are not ours */
    int64_t deadline_ns;     /* the joins may bring an earlier one */
    /* Shrink: ranks may be missing, if it is proven that they are dead (by `dead`, or nobody listens at their endpoint). */
    bool survivors;
    const weft_endpoint *endpoints;
    const uint64_t *dead;
    int self;
    int64_t dead_peer_ms;
} weft_meeting_config;
weft_status weft_meeting_serve(const weft_meeting_config *config, weft_meeting_server **out);
/* The caller's own part is over, with that status: on success waits for the server's end (it is near), else tells all others
 * this thread's error detail (unless they know a better one) and leaves the server to do so in the background. */
void weft_meeting_finish(weft_meeting_server *server, weft_status status);
/* Leaves it in the background, to end by itself (unique ids). */
void weft_meeting_leave(weft_meeting_server *server);
/* Ends servers of this process that only linger to tell latecomers of a failure. Returns when the ports from low to high are
 * free of them. */
void weft_meeting_stop_lingering(uint16_t low, uint16_t high);

/* ---- guest -------------------------------------------------------------------------------------- */
/* Where to knock. With `find` the places are asked for anew in each round (names, files, stores). */
enum { WEFT_MEETING_PLACES = 64 };
typedef struct weft_meeting_places {
    int count;
    uint64_t token;
    struct sockaddr_storage address[WEFT_MEETING_PLACES];
} weft_meeting_places;
typedef struct weft_guest {
    int rank, size;
    const char *place;        /* for texts */
    weft_status (*find)(void *context, weft_meeting_places *places, int64_t deadline_ns); /* WEFT_IN_PROGRESS: not there yet */
    void *context;
    uint64_t token;
    int64_t deadline_ns;
    int64_t patience_ms;      /* for a connection and for a greeting; the latter -1: as long as it takes */
    int64_t greeting_patience_ms;
    bool once;                /* shrink: WEFT_ERR_PEER as soon as nobody is there */
    weft_status refusal;      /* this rank cannot take part: it joins only to say so, and why */
    const char *reason;
    int listener;             /* for this rank's children */
    weft_endpoint listen;
} weft_guest;
/* What came of it: the edges of the tree, all open, blocking nobody. */
typedef struct weft_meeting_result {
    uint64_t job;
    int rank, size;
    int parent, children[WEFT_TREE_FANOUT]; /* descriptors, -1 */
    uint8_t *alive;           /* shrink: bit per old rank, to be freed; NULL: all */
    size_t alive_bytes;
} weft_meeting_result;
/* Collective. On failure nothing is left open. WEFT_IN_PROGRESS (shrink only): the meeting begins again. */
weft_status weft_meeting_join(const weft_guest *guest, weft_meeting_result *result);
/* Closes the edges and frees the list. */
void weft_meeting_release(weft_meeting_result *result);

/* ---- pieces of the guest's part ------------------------------------------------------------------ */
/* Tries the places until one gives the greeting; -1 with `reason` said if none does in this round. */
int weft_meeting_dial(const weft_meeting_places *places, int64_t deadline_ns, int64_t patience_ms,
                      int64_t greeting_patience_ms, char reason[WEFT_MEETING_TEXT_BYTES]);
/* Connects this rank's tree edges while it watches the meeting's connection. */
weft_status weft_meeting_connect_edges(int meeting, int listener, const weft_assign *assign, int64_t deadline_ns,
                                       weft_meeting_result *result);
/* Waits for one frame of the meeting's server and, when it is an error, fails with it. *payload is to be freed. */
weft_status weft_meeting_receive(int meeting, int64_t deadline_ns, weft_frame_header *header, uint8_t **payload);

/* This rank cannot take part, the thread's error says why: tells the others who meet as config says, as far as that can be
 * done in little time. The error stays. */
void weft_rendezvous_refuse(const weft_control_config *config, weft_status status);
/* Meets as config says: the way from a weft_control_config to a result. *listener and *listen: this rank's own. */
weft_status weft_rendezvous_meet(const weft_control_config *config, int *listener, weft_endpoint *listen,
                                 weft_meeting_result *result);
#endif

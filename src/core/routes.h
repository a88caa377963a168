/* The routes of a process group: which transports are opened, how their addresses get around, which one reaches whom. */
#ifndef WEFT_ROUTES_H
#define WEFT_ROUTES_H

#include "core/engine.h"
#include "transport/registry.h"

/* A parsed list of transports, in order of preference. */
typedef struct weft_route_choice {
    int count;
    struct {
        char name[WEFT_TRANSPORT_NAME];
        bool optional; /* from "auto": left out where it cannot be opened */
    } entries[WEFT_WIRE_ROUTES];
} weft_route_choice;

/* Reads a list such as "auto" or "shm,tcp"; an error names what is unknown or not in this build, and why. */
weft_status weft_routes_choose(const char *list, bool net_plugin, weft_route_choice *choice);
bool weft_routes_chosen(const weft_route_choice *choice, const char *name);
/* Opens what is of use here: no shm for a rank alone on its host, nothing after shm when all share a host. */
weft_status weft_routes_open(weft_engine *e, const weft_route_choice *choice);
/* Tells all ranks this one's addresses. Collective; ranks may have opened different transports. */
weft_status weft_routes_exchange(weft_engine *e, int64_t deadline_ns);
/* For each peer the first transport that reaches it. */
weft_status weft_routes_select(weft_engine *e);
/* The worst way that any rank has, into e->agreed: all choose algorithms by the same figures. Collective. */
weft_status weft_routes_agree(weft_engine *e, int64_t deadline_ns);

#endif

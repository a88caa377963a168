/* Rendezvous URLs: tcp://host:port, tcp://host:port+N, tcp://[::1]:port, file:///path. */
#ifndef WEFT_RENDEZVOUS_URL_H
#define WEFT_RENDEZVOUS_URL_H

#include "core/rendezvous.h"

typedef struct weft_url {
    char host[256];
    uint16_t port, more_ports; /* port .. port + more_ports may be tried */
    char path[512];            /* of file://, else "" */
} weft_url;

/* WEFT_ERR_PARSE names the URL and the part that is wrong. */
weft_status weft_url_parse(const char *text, weft_url *url);
/* Adds host's addresses at all ports: first all addresses at the first port. A name that cannot be resolved is WEFT_ERR_TIMEOUT
 * with the detail said (it may be resolvable later). */
weft_status weft_url_resolve(const weft_url *url, weft_meeting_places *places);
#endif

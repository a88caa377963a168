/* Parsing and resolving of rendezvous URLs. */
#include "core/rendezvous_url.h"

#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#include "base/settings.h"

static weft_status bad(const char *text, const char *why)
{
    return weft_fail(WEFT_ERR_PARSE, "rendezvous '%.200s': %s; use tcp://host:port or file:///path", text, why);
}

static weft_status parse_tcp(const char *text, const char *at, weft_url *url)
{
    const char *host = at, *end;
    if (*at == '[') {
        host++;
        end = strchr(at, ']');
        if (end == NULL)
            return bad(text, "']' is missing");
        at = end + 1;
    } else {
        end = at = at + strcspn(at, ":/+");
    }
    size_t length = (size_t)(end - host);
    if (length == 0 || length >= sizeof url->host)
        return bad(text, "the host is missing or too long");
    memcpy(url->host, host, length);
    if (*at != ':')
        return bad(text, "the port is missing");
    char number[16] = "";
    size_t digits = strcspn(++at, "+");
    int64_t port, more = 0;
    if (digits < sizeof number)
        memcpy(number, at, digits);
    if (weft_parse_int(number, 1, 65535, &port) != WEFT_OK)
        return bad(text, "the port must be 1 to 65535");
    at += digits;
    if (*at == '+' && (weft_parse_int(at + 1, 0, 31, &more) != WEFT_OK || port + more > 65535))
        return bad(text, "the number of further ports must be 0 to 31, and none above 65535");
    url->port = (uint16_t)port;
    url->more_ports = (uint16_t)more;
    return WEFT_OK;
}

weft_status weft_url_parse(const char *text, weft_url *url)
{
    memset(url, 0, sizeof *url);
    if (text == NULL || *text == 0)
        return weft_fail(WEFT_ERR_INVALID, "the rendezvous URL is empty; use tcp://host:port or file:///path");
    if (strncmp(text, "tcp://", 6) == 0)
        return parse_tcp(text, text + 6, url);
    if (strncmp(text, "file://", 7) != 0)
        return bad(text, "unknown scheme");
    if (text[7] != '/' || text[8] == 0)
        return bad(text, "the path must be absolute");
    if (strlen(text + 7) >= sizeof url->path - 32)
        return bad(text, "the path is too long");
    memcpy(url->path, text + 7, strlen(text + 7) + 1);
    return WEFT_OK;
}

weft_status weft_url_resolve(const weft_url *url, weft_meeting_places *places)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG }, *found = NULL;
    char service[8];
    int error = 0;
    for (unsigned more = 0; more <= url->more_ports; more++) {
        snprintf(service, sizeof service, "%u", url->port + more);
        error = getaddrinfo(url->host, service, &hints, &found);
        if (error != 0 && hints.ai_flags != 0) {
            hints.ai_flags = 0; /* a host with nothing but loopback has no "configured" address */
            error = getaddrinfo(url->host, service, &hints, &found);
        }
        if (error != 0)
            break;
        for (const struct addrinfo *a = found; a != NULL && places->count < WEFT_MEETING_PLACES; a = a->ai_next) {
            if (a->ai_family == AF_INET || a->ai_family == AF_INET6)
                memcpy(&places->address[places->count++], a->ai_addr, a->ai_addrlen);
        }
        freeaddrinfo(found);
    }
    if (error != 0 && places->count == 0)
        return weft_fail(WEFT_ERR_TIMEOUT, "the host name '%s' cannot be resolved: %s", url->host, gai_strerror(error));
    return WEFT_OK;
}

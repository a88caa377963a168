/* The meeting's server with a guest that sends any bytes: as a stranger, or (first byte odd) after a good join. It drops him or
 * tells him why; it never crashes, and it always ends when it is told to. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/rendezvous.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum { RANKS = 3 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static int listener = -1;
    static uint16_t port;
    static const weft_endpoint endpoints[RANKS];
    static const uint64_t dead[1];
    if (listener < 0) {
        weft_log_set_level((weft_log_level)-2); /* below all: every guest is a stranger */
        if (weft_control_listen(0, 0, &listener, &port) != WEFT_OK)
            abort();
    }
    weft_meeting_config config = { .listener = listener, .size = RANKS, .token = 5, .deadline_ns = WEFT_NEVER, .survivors = true,
                                   .endpoints = endpoints, .dead = dead, .self = 0 };
    weft_meeting_server *server;
    if (weft_meeting_serve(&config, &server) != WEFT_OK)
        abort();
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = { htonl(INADDR_LOOPBACK) } };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval patience = { .tv_sec = 10 };
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    /* No TIME_WAIT: there are only so many ports. */
    struct linger reset = { 1, 0 };
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        abort();
    if (bytes != 0 && data[0] % 2 != 0) {
        uint8_t join[WEFT_JOIN_BYTES];
        weft_join_encode(&(weft_join){ .version = WEFT_CONTROL_VERSION, .rank = data[0] / 2 % RANKS, .size = RANKS, .token = 5,
                                       .timeout_ms = -1 }, join);
        send(fd, join, sizeof join, MSG_NOSIGNAL);
    }
    if (bytes > 1)
        send(fd, data + 1, bytes - 1, MSG_NOSIGNAL);
    shutdown(fd, SHUT_WR);
    char answer[4096];
    ssize_t n;
    while ((n = recv(fd, answer, sizeof answer, 0)) > 0)
        ;
    close(fd);
    weft_fail(WEFT_ERR_INTERNAL, "the test is over");
    weft_meeting_finish(server, WEFT_ERR_INTERNAL);
    return 0;
}

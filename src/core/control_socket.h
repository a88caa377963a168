/* Sockets of the control plane: descriptors that a forked child gives up at once, listening, addresses and their
 * texts. All descriptors are non-blocking and close-on-exec. Protocols are left to others. */
#ifndef WEFT_CONTROL_SOCKET_H
#define WEFT_CONTROL_SOCKET_H

#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>

#include "core/control_wire.h"

enum { WEFT_ADDRESS_TEXT_BYTES = 80 };

/* Descriptors: -1 and errno on failure. The child of a fork closes all of them, so that a peer still sees the parent's
 * end, and so that a listener does not outlive it. */
int weft_control_socket(int family);
int weft_control_accept(int listener, struct sockaddr_storage *peer);
int weft_control_epoll(void);
int weft_control_eventfd(void);
/* Takes -1. */
void weft_control_close(int fd);
/* A thread with all signals blocked; what: for the error, "the control thread". */
weft_status weft_control_thread_start(pthread_t *thread, const char *what, void *(*function)(void *), void *argument);
/* Adds one to an eventfd. */
void weft_control_wake(int event);

/* WEFT_ERR_SYSTEM names a system call that this process needs to meet others and may not make: refused only when it is needed,
 * ranks would wait for one another. */
weft_status weft_control_check_calls(void);

/* "20000-20100" or "20000"; "" and NULL: 0, 0 (any). */
weft_status weft_control_parse_ports(const char *text, uint16_t *low, uint16_t *high);
/* Listens on all addresses, IPv4 and IPv6, at the first free port from low to high (0: any). WEFT_ERR_SYSTEM names the ports. */
weft_status weft_control_listen(uint16_t low, uint16_t high, int *fd, uint16_t *port);
/* This host's addresses, as the list of interfaces allows; loopback only when there is nothing else. */
weft_status weft_control_addresses(const char *interfaces, weft_endpoint *endpoint);

/* "10.0.0.1:80", "[fe80::1%eth0]:80". Returns text. */
char *weft_control_address_text(const struct sockaddr_storage *address, char text[WEFT_ADDRESS_TEXT_BYTES]);
/* Where an endpoint may be called, up to `room`: a link-local address by each interface that has one. Returns how many. */
int weft_control_sockaddrs(const weft_endpoint *endpoint, struct sockaddr_storage *list, int room);
socklen_t weft_control_sockaddr_bytes(const struct sockaddr_storage *address);
/* Puts the address (not the port) in front; if it is in the list already it moves. */
void weft_control_prefer(weft_endpoint *endpoint, const struct sockaddr_storage *address);
bool weft_control_is_loopback(const struct sockaddr_storage *address);
/* A mapped IPv4 address becomes a plain one. */
void weft_control_unmap(struct sockaddr_storage *address);
bool weft_control_same_host(const struct sockaddr_storage *a, const struct sockaddr_storage *b);

/* Keepalive and user timeout: the kernel gives up on a silent host after about that time, a process that is only
 * slow or stopped stays alive. */
void weft_control_keepalive(int fd, int64_t dead_peer_ms);
void weft_control_no_delay(int fd);
/* Writes all of it, waiting for room until the deadline. False: errno. */
bool weft_control_write(int fd, const void *data, size_t bytes, int64_t deadline_ns);
/* Milliseconds for poll() until then, at most `most`. */
int weft_control_poll_ms(int64_t deadline_ns, int most);
#endif

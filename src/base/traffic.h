/* What traffic control (tc) of this network namespace limits an interface to. */
#ifndef WEFT_TRAFFIC_H
#define WEFT_TRAFFIC_H

#include <stdint.h>

/* Mbit/s that a tbf, or the widest class below an htb, lets out of the interface with that index; 0: no limit, or not known.
 * One to three system calls, no privilege; any thread. */
uint32_t weft_traffic_limit_Mbps(unsigned interface_index);

#endif

/* Which network interfaces lead out of this machine, where there are more than can be used: the bridges of containers have
 * addresses too, the same on every host. */
#ifndef WEFT_OUTWARD_H
#define WEFT_OUTWARD_H

#include <stdbool.h>

/* Whether it has the default route, or a device below it (itself, or as a bond, bridge or VLAN over one). False where nothing
 * can be learned. A few system calls; any thread. */
bool weft_interface_leads_out(const char *name);

#endif

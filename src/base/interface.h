/* Network interfaces: which a setting names, and which lead out of this machine, where there are more than can be used: the
 * bridges of containers have addresses too, the same on every host. */
#ifndef WEFT_INTERFACE_H
#define WEFT_INTERFACE_H

#include <stdbool.h>

/* Whether a list has the name: prefixes "a,b", after "=" whole names. */
bool weft_name_in_list(const char *name, const char *list);
/* What WEFT_INTERFACES says of it: such a list, or after "^" one of what to leave out; NULL and "": all are allowed. */
bool weft_interface_allowed(const char *name, const char *setting);

/* Whether it has the default route, or a device below it (itself, or as a bond, bridge or VLAN over one). False where nothing
 * can be learned. A few system calls; any thread. */
bool weft_interface_leads_out(const char *name);

#endif

/* Which transports there are: built in, left out of this build, or in a library of their own. Which one a pair of ranks
 * uses is the communicator's choice. */
#ifndef WEFT_TRANSPORT_REGISTRY_H
#define WEFT_TRANSPORT_REGISTRY_H

#include <weft/transport.h>
#include "base/base.h"

enum { WEFT_TRANSPORT_NAME = 24 }; /* longest name of a transport, with its end */

/* Like weft_transport_find, with the reason why there is none as detail: unknown, not in this build, a library of another
 * version. Loads the library libweft-transport-NAME.so when no built-in transport has that name. */
weft_status weft_transport_get(const char *name, const weft_transport_ops **out);

/* The names that "auto" stands for, best first; NULL after the last. net_plugin: WEFT_NET_PLUGIN names one, so it is wanted.
 * *optional: one that cannot be opened here is left out instead of being an error. */
const char *weft_transport_auto(int index, bool net_plugin, bool *optional);

/* For weft_transport_config.fail and .log: every opener gives these. */
weft_status weft_transport_fail(weft_status status, const char *detail);
void weft_transport_log(int level, const char *text);

/* library.c: the transport of that name in a library of its own, checked; the library stays loaded. */
weft_status weft_transport_load(const char *name, const weft_transport_ops **out);
/* The same for a library whose path is known. */
weft_status weft_transport_load_file(const char *path, const char *name, const weft_transport_ops **out);

#endif

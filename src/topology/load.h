/* Reading whole files, bounded. */
#ifndef WEFT_TOPOLOGY_LOAD_H
#define WEFT_TOPOLOGY_LOAD_H

#include "base/base.h"

/* The whole file into *text, which the caller frees. */
weft_status weft_read_file(const char *path, char **text, size_t *bytes);
#endif

/* The importers, one file each: from a tree of elements or a text to a topology. On failure nothing is left. */
#ifndef WEFT_TOPOLOGY_IMPORT_H
#define WEFT_TOPOLOGY_IMPORT_H

#include "topology/document.h"
#include "topology/graph.h"

weft_status weft_import_nccl(const weft_document *d, weft_topology **out);
weft_status weft_import_hwloc(const weft_document *d, weft_topology **out);
/* Not finished yet: the live reader adds to it. */
weft_status weft_hwloc_build(const weft_document *d, weft_topology **out);
weft_status weft_import_weft(const weft_document *d, weft_topology **out);
weft_status weft_import_matrix(const char *text, size_t bytes, const char *file, weft_topology **out);

/* Ends an import: finishes t and gives it out, or frees it and says why not. `file` and line 1 stand in the message. */
weft_status weft_import_done(weft_topology *t, weft_status status, bool derive, const char *file, weft_topology **out);

/* NVSwitch chips of a host count as one fabric: every GPU has its links spread over all of them, and what matters is their sum.
 * The fabric's node, made on first use; the chip's bus id is kept in it once. */
int weft_import_fabric(weft_topology *t, int host, const char *chip);
#endif

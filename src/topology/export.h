/* Writing a topology: what export.c and export_nccl.c share. */
#ifndef WEFT_TOPOLOGY_EXPORT_H
#define WEFT_TOPOLOGY_EXPORT_H

#include "topology/graph.h"

/* A text in quotes for XML. */
void weft_export_xml_text(FILE *out, const char *text);
void weft_export_nccl(const weft_topology *t, FILE *out);
#endif

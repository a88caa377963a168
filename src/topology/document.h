/* A file as a tree of elements with attributes: what the XML and the JSON reader give to the importers. Bounded in size and
 * depth; everything in it lives until weft_document_free. */
#ifndef WEFT_TOPOLOGY_DOCUMENT_H
#define WEFT_TOPOLOGY_DOCUMENT_H

#include <weft/topology.h>

#include "base/base.h"

enum { WEFT_DOCUMENT_DEPTH_MAX = 256, WEFT_DOCUMENT_BYTES_MAX = 64 << 20 };

typedef struct weft_document_attribute {
    const char *name, *value;
    int next;
} weft_document_attribute;

typedef struct weft_element {
    const char *name, *text; /* text: what stands between the tags, "" if nothing but space does */
    int line, parent, first_child, last_child, next, first_attribute, last_attribute;
} weft_element;

typedef struct weft_document {
    const char *file; /* for messages */
    weft_element *element; /* [0]: the root */
    weft_document_attribute *attribute;
    char *strings;
    size_t strings_used, strings_room;
    int elements, element_room, attributes, attribute_room;
} weft_document;

/* Elements and attributes, attributes in quotes, the five named entities and numbers, comments, CDATA, a DOCTYPE without
 * declarations inside: what machine files use. WEFT_ERR_PARSE "FILE:LINE: reason". */
weft_status weft_xml_parse(const char *text, size_t bytes, const char *file, weft_document *document);
/* An object is an element, its scalars are attributes, its objects and arrays children; each member of an array is a child with
 * the array's name. */
weft_status weft_json_parse(const char *text, size_t bytes, const char *file, weft_document *document);
void weft_document_free(weft_document *document);

/* For the readers: add to the tree. -1 or NULL: no memory. */
int weft_document_add(weft_document *d, int parent, const char *name, int line);
bool weft_document_add_attribute(weft_document *d, int element, const char *name, const char *value);
/* A copy; the strings of a document are never longer than its file. */
char *weft_document_keep(weft_document *d, const char *text, size_t bytes);
weft_status weft_document_create(weft_document *d, size_t bytes, const char *file);

/* For the importers. NULL: the element has no such attribute. */
const char *weft_document_get(const weft_document *d, int element, const char *name);
/* A number (0x: hexadecimal) in [low, high]; `otherwise` where there is none or it is out of range. */
int64_t weft_document_int(const weft_document *d, int element, const char *name, int64_t low, int64_t high, int64_t otherwise);
/* All of a text as a finite number; `otherwise` if it is none, empty or NULL. */
double weft_text_number(const char *text, double otherwise);
double weft_document_double(const weft_document *d, int element, const char *name, double otherwise);
bool weft_document_is(const weft_document *d, int element, const char *name);
/* The next child of that name after `after` (-1: the first); NULL name: any. -1: none. */
int weft_document_child(const weft_document *d, int element, int after, const char *name);
/* WEFT_ERR_PARSE, "FILE:LINE: ..." */
weft_status weft_document_fail(const weft_document *d, int element, const char *format, ...) WEFT_PRINTF(3, 4);
#endif

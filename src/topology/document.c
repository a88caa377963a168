/* The tree of elements that the XML and the JSON reader fill and the importers walk. */
#include "topology/document.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"

weft_status weft_document_create(weft_document *d, size_t bytes, const char *file)
{
    memset(d, 0, sizeof *d);
    d->file = file;
    if (bytes > WEFT_DOCUMENT_BYTES_MAX)
        return weft_fail(WEFT_ERR_PARSE, "%s:1: %zu bytes are too many: at most %d", file, bytes, WEFT_DOCUMENT_BYTES_MAX);
    d->strings_room = bytes + 64;
    d->strings = weft_alloc(d->strings_room);
    return d->strings ? WEFT_OK : weft_fail(WEFT_ERR_MEMORY, "no memory to read %s", file);
}

void weft_document_free(weft_document *d)
{
    weft_free(d->element);
    weft_free(d->attribute);
    weft_free(d->strings);
    memset(d, 0, sizeof *d);
}

static bool grow(void **array, int count, int *room, size_t bytes)
{
    if (count < *room)
        return true;
    int more = *room ? *room * 2 : 128;
    void *larger = weft_realloc(*array, (size_t)more * bytes);
    if (!larger)
        return false;
    *array = larger;
    *room = more;
    return true;
}

int weft_document_add(weft_document *d, int parent, const char *name, int line)
{
    if (!grow((void **)&d->element, d->elements, &d->element_room, sizeof *d->element))
        return -1;
    int at = d->elements++;
    d->element[at] = (weft_element){name, "", line, parent, -1, -1, -1, -1, -1};
    if (parent >= 0) {
        weft_element *p = &d->element[parent];
        if (p->last_child >= 0)
            d->element[p->last_child].next = at;
        else
            p->first_child = at;
        p->last_child = at;
    }
    return at;
}

bool weft_document_add_attribute(weft_document *d, int element, const char *name, const char *value)
{
    if (!grow((void **)&d->attribute, d->attributes, &d->attribute_room, sizeof *d->attribute))
        return false;
    weft_element *e = &d->element[element];
    int at = d->attributes++;
    d->attribute[at] = (weft_document_attribute){name, value, -1};
    if (e->last_attribute >= 0)
        d->attribute[e->last_attribute].next = at;
    else
        e->first_attribute = at;
    e->last_attribute = at;
    return true;
}

char *weft_document_keep(weft_document *d, const char *text, size_t bytes)
{
    if (bytes + 1 > d->strings_room - d->strings_used)
        return NULL;
    char *copy = d->strings + d->strings_used;
    memcpy(copy, text, bytes);
    copy[bytes] = 0;
    d->strings_used += bytes + 1;
    return copy;
}

const char *weft_document_get(const weft_document *d, int element, const char *name)
{
    for (int i = d->element[element].first_attribute; i >= 0; i = d->attribute[i].next)
        if (strcmp(d->attribute[i].name, name) == 0)
            return d->attribute[i].value;
    return NULL;
}

int64_t weft_document_int(const weft_document *d, int element, const char *name, int64_t low, int64_t high, int64_t otherwise)
{
    const char *text = weft_document_get(d, element, name);
    char *end;
    if (!text || !*text)
        return otherwise;
    bool hexadecimal = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
    errno = 0;
    long long value = strtoll(text, &end, hexadecimal ? 16 : 10);
    return *end || errno || value < low || value > high ? otherwise : value;
}

double weft_text_number(const char *text, double otherwise)
{
    char *end;
    if (!text || !*text)
        return otherwise;
    double value = weft_strtod(text, &end);
    return *end || !isfinite(value) ? otherwise : value;
}

double weft_document_double(const weft_document *d, int element, const char *name, double otherwise)
{
    return weft_text_number(weft_document_get(d, element, name), otherwise);
}

bool weft_document_is(const weft_document *d, int element, const char *name)
{
    return strcmp(d->element[element].name, name) == 0;
}

int weft_document_child(const weft_document *d, int element, int after, const char *name)
{
    int at = after < 0 ? d->element[element].first_child : d->element[after].next;
    while (at >= 0 && name && !weft_document_is(d, at, name))
        at = d->element[at].next;
    return at;
}

weft_status weft_document_fail(const weft_document *d, int element, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    return weft_fail(WEFT_ERR_PARSE, "%s:%d: %s", d->file, element < d->elements ? d->element[element].line : 1, text);
}

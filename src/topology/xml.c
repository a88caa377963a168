/* A small strict XML reader. It takes what machine files are made of and refuses the rest with a line number: no declarations of
 * entities, no encodings but those in which ASCII is ASCII, at most WEFT_DOCUMENT_DEPTH_MAX levels. */
#define _GNU_SOURCE
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "topology/document.h"

enum { ATTRIBUTES_MAX = 256 };

typedef struct reader {
    const char *at, *end;
    int line;
    int open, depth; /* innermost open element, -1: none */
    bool seen_root;
    weft_document *d;
} reader;

static weft_status wrong(const reader *r, const char *what)
{
    return weft_fail(WEFT_ERR_PARSE, "%s:%d: %s", r->d->file, r->line, what);
}

static weft_status no_memory(const reader *r)
{
    return weft_fail(WEFT_ERR_MEMORY, "no memory to read %s", r->d->file);
}

static bool starts(const reader *r, const char *text)
{
    size_t bytes = strlen(text);
    return (size_t)(r->end - r->at) >= bytes && memcmp(r->at, text, bytes) == 0;
}

static void advance(reader *r, size_t bytes)
{
    for (; bytes > 0 && r->at < r->end; bytes--, r->at++)
        r->line += *r->at == '\n';
}

static bool skip_space(reader *r)
{
    const char *from = r->at;
    while (r->at < r->end && isspace((unsigned char)*r->at))
        advance(r, 1);
    return r->at > from;
}

/* Moves behind the next `closing`; false: there is none. */
static bool skip_past(reader *r, const char *closing)
{
    size_t bytes = strlen(closing);
    const char *found = memmem(r->at, (size_t)(r->end - r->at), closing, bytes);
    if (!found)
        return false;
    advance(r, (size_t)(found - r->at) + bytes);
    return true;
}

static bool is_name(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '-' || c == '.' || c == ':' || (unsigned char)c >= 0x80;
}

/* A name; empty: there is none here. */
static size_t name_length(const reader *r)
{
    size_t length = 0;
    while (r->at + length < r->end && is_name(r->at[length]))
        length++;
    return length > 0 && (isdigit((unsigned char)*r->at) || *r->at == '-' || *r->at == '.') ? 0 : length;
}

static size_t put_utf8(unsigned long code, char *out)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xe0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3f));
        out[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3f));
    out[2] = (char)(0x80 | (code >> 6 & 0x3f));
    out[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}

/* Decodes the reference at text[0] == '&' into out; gives the bytes read, 0: it is none. Never longer decoded than written. */
static size_t decode_reference(const char *text, char *out, size_t *written)
{
    static const struct {
        const char *name;
        char value;
    } named[] = {{"&lt;", '<'}, {"&gt;", '>'}, {"&amp;", '&'}, {"&quot;", '"'}, {"&apos;", '\''}};
    for (size_t i = 0; i < ARRAY_LEN(named); i++) {
        if (strncmp(text, named[i].name, strlen(named[i].name)) == 0) {
            *out = named[i].value;
            *written = 1;
            return strlen(named[i].name);
        }
    }
    if (text[1] != '#')
        return 0;
    bool hexadecimal = text[2] == 'x';
    const char *digits = text + 2 + hexadecimal;
    char *end;
    if (!isxdigit((unsigned char)*digits))
        return 0;
    unsigned long code = strtoul(digits, &end, hexadecimal ? 16 : 10);
    if (*end != ';' || code == 0 || code > 0x10ffff)
        return 0;
    *written = put_utf8(code, out);
    return (size_t)(end - text) + 1;
}

/* Keeps a piece of text with its references decoded. NULL: a reference that is none. */
static char *keep_decoded(reader *r, const char *text, size_t bytes)
{
    char *kept = weft_document_keep(r->d, text, bytes);
    char *to = kept;
    for (const char *from = kept; from && *from;) {
        size_t written = 1, read = 1;
        if (*from == '&') {
            char decoded[4];
            read = decode_reference(from, decoded, &written);
            if (read == 0)
                return NULL;
            memcpy(to, decoded, written);
        } else {
            *to = *from;
        }
        from += read;
        to += written;
    }
    if (to)
        *to = 0;
    return kept;
}

static weft_status read_attribute(reader *r, int element)
{
    size_t length = name_length(r);
    if (length == 0)
        return wrong(r, "an attribute's name, > or /> is missing");
    const char *name = weft_document_keep(r->d, r->at, length);
    advance(r, length);
    skip_space(r);
    if (r->at >= r->end || *r->at != '=')
        return wrong(r, "an attribute without = and a value");
    advance(r, 1);
    skip_space(r);
    if (r->at >= r->end || (*r->at != '"' && *r->at != '\''))
        return wrong(r, "an attribute's value is not in quotes");
    char quote = *r->at;
    advance(r, 1);
    const char *close = memchr(r->at, quote, (size_t)(r->end - r->at));
    if (!close)
        return wrong(r, "the quotes of a value are not closed");
    if (memchr(r->at, '<', (size_t)(close - r->at)))
        return wrong(r, "< in a value: are the quotes before it closed?");
    const char *value = keep_decoded(r, r->at, (size_t)(close - r->at));
    if (!name || !value)
        return wrong(r, "& without a known entity in a value");
    if (weft_document_get(r->d, element, name))
        return weft_fail(WEFT_ERR_PARSE, "%s:%d: attribute %.60s stands twice", r->d->file, r->line, name);
    advance(r, (size_t)(close - r->at) + 1);
    return weft_document_add_attribute(r->d, element, name, value) ? WEFT_OK : no_memory(r);
}

static weft_status read_start(reader *r)
{
    advance(r, 1);
    size_t length = name_length(r);
    if (length == 0)
        return wrong(r, "< without a name after it");
    if (r->open < 0 && r->seen_root)
        return wrong(r, "a second element after the end of the first: one file holds one machine");
    if (r->depth >= WEFT_DOCUMENT_DEPTH_MAX)
        return wrong(r, "elements are nested deeper than 256 levels");
    const char *name = weft_document_keep(r->d, r->at, length);
    int element = name ? weft_document_add(r->d, r->open, name, r->line) : -1;
    if (element < 0)
        return no_memory(r);
    advance(r, length);
    r->seen_root = true;
    for (int attributes = 0; attributes <= ATTRIBUTES_MAX; attributes++) {
        bool space = skip_space(r);
        if (starts(r, "/>")) {
            advance(r, 2);
            return WEFT_OK;
        }
        if (starts(r, ">")) {
            advance(r, 1);
            r->open = element;
            r->depth++;
            return WEFT_OK;
        }
        if (r->at >= r->end)
            return wrong(r, "the file ends inside a tag: is it complete?");
        if (!space)
            return wrong(r, "no space before an attribute");
        weft_status status = read_attribute(r, element);
        if (status != WEFT_OK)
            return status;
    }
    return wrong(r, "more than 256 attributes in one element");
}

static weft_status read_end(reader *r)
{
    advance(r, 2);
    size_t length = name_length(r);
    if (r->open < 0)
        return wrong(r, "an end tag without its begin");
    const char *name = r->d->element[r->open].name;
    if (strlen(name) != length || memcmp(name, r->at, length) != 0)
        return weft_fail(WEFT_ERR_PARSE, "%s:%d: </%.*s> closes <%.60s>", r->d->file, r->line, (int)weft_min_size(length, 60),
                         r->at, name);
    advance(r, length);
    skip_space(r);
    if (!starts(r, ">"))
        return wrong(r, "an end tag without >");
    advance(r, 1);
    r->open = r->d->element[r->open].parent;
    r->depth--;
    return WEFT_OK;
}

/* The first text of an element that is not all space is kept; machine files have no more than one. */
static weft_status read_text(reader *r)
{
    const char *stop = memchr(r->at, '<', (size_t)(r->end - r->at));
    size_t bytes = (size_t)((stop ? stop : r->end) - r->at);
    const char *from = r->at;
    while (bytes > 0 && isspace((unsigned char)*from)) {
        from++;
        bytes--;
    }
    advance(r, (size_t)(from - r->at));
    if (bytes > 0 && r->open < 0)
        return wrong(r, "text outside of the elements");
    if (bytes > 0 && !*r->d->element[r->open].text) {
        const char *text = keep_decoded(r, from, bytes);
        if (!text)
            return wrong(r, "& without a known entity in a text");
        r->d->element[r->open].text = text;
    }
    advance(r, bytes);
    return WEFT_OK;
}

/* Comments, processing instructions, CDATA and DOCTYPE carry nothing that importers need. */
static weft_status read_markup(reader *r)
{
    if (starts(r, "<?"))
        return skip_past(r, "?>") ? WEFT_OK : wrong(r, "<? without ?>");
    if (starts(r, "<!--"))
        return skip_past(r, "-->") ? WEFT_OK : wrong(r, "a comment without its end -->");
    if (starts(r, "<![CDATA["))
        return skip_past(r, "]]>") ? WEFT_OK : wrong(r, "CDATA without its end ]]>");
    const char *close = memchr(r->at, '>', (size_t)(r->end - r->at));
    if (!starts(r, "<!DOCTYPE") || !close || r->seen_root)
        return wrong(r, "<! begins nothing that is known here");
    if (memchr(r->at, '[', (size_t)(close - r->at)))
        return wrong(r, "a DOCTYPE with declarations inside is not read");
    advance(r, (size_t)(close - r->at) + 1);
    return WEFT_OK;
}

weft_status weft_xml_parse(const char *text, size_t bytes, const char *file, weft_document *document)
{
    weft_status status = weft_document_create(document, bytes, file);
    reader r = {text, text + bytes, 1, -1, 0, false, document};
    if (status == WEFT_OK && memchr(text, 0, bytes))
        status = wrong(&r, "bytes of value 0: the file is not text");
    if (status == WEFT_OK && starts(&r, "\xef\xbb\xbf"))
        advance(&r, 3);
    while (status == WEFT_OK && r.at < r.end) {
        if (*r.at != '<')
            status = read_text(&r);
        else if (starts(&r, "</"))
            status = read_end(&r);
        else if (starts(&r, "<!") || starts(&r, "<?"))
            status = read_markup(&r);
        else
            status = read_start(&r);
    }
    if (status == WEFT_OK && r.open >= 0)
        status = weft_fail(WEFT_ERR_PARSE, "%s:%d: the file ends before </%.60s> (begun in line %d): is it complete?", file,
                           r.line, document->element[r.open].name, document->element[r.open].line);
    if (status == WEFT_OK && !r.seen_root)
        status = wrong(&r, "no element in the file");
    if (status != WEFT_OK)
        weft_document_free(document);
    return status;
}

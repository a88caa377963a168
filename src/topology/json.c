/* A small strict JSON reader into the same tree that the XML reader fills. */
#include <ctype.h>
#include <string.h>

#include "topology/document.h"

typedef struct reader {
    const char *at, *end;
    int line, depth;
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

static void skip_space(reader *r)
{
    for (; r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r'); r->at++)
        r->line += *r->at == '\n';
}

static bool next_is(reader *r, char c)
{
    skip_space(r);
    if (r->at >= r->end || *r->at != c)
        return false;
    r->at++;
    return true;
}

static int hex_digit(char c)
{
    return isdigit((unsigned char)c) ? c - '0' : isxdigit((unsigned char)c) ? tolower((unsigned char)c) - 'a' + 10 : -1;
}

/* The four digits of \uXXXX; -1: they are none. */
static int unicode_escape(const char *text, const char *end)
{
    int code = 0;
    if (end - text < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(text[i]);
        if (digit < 0)
            return -1;
        code = code << 4 | digit;
    }
    return code;
}

/* Decodes the escape behind a backslash; gives the bytes read, 0: there is no such escape. Surrogates and 0 become '?'. */
static size_t decode_escape(const char *text, const char *end, char *out, size_t *written)
{
    static const char letters[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    *written = 1;
    const char *letter = text < end && *text ? strchr(letters, *text) : NULL;
    if (letter) {
        *out = values[letter - letters];
        return 1;
    }
    int code = text < end && *text == 'u' ? unicode_escape(text + 1, end) : -1;
    if (code < 0)
        return 0;
    if (code == 0 || (code >= 0xd800 && code < 0xe000)) {
        *out = '?';
    } else if (code < 0x80) {
        *out = (char)code;
    } else if (code < 0x800) {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3f));
        *written = 2;
    } else {
        out[0] = (char)(0xe0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3f));
        out[2] = (char)(0x80 | (code & 0x3f));
        *written = 3;
    }
    return 5;
}

static weft_status read_string(reader *r, const char **out)
{
    const char *from = r->at, *close = from;
    while (close < r->end && *close != '"')
        close += *close == '\\' && close + 1 < r->end ? 2 : 1;
    if (close >= r->end)
        return wrong(r, "a string without its closing quote");
    char *kept = weft_document_keep(r->d, from, (size_t)(close - from));
    if (!kept)
        return no_memory(r);
    char *to = kept;
    for (const char *c = from; c < close; c++) {
        size_t written = 1;
        if ((unsigned char)*c < 0x20)
            return wrong(r, "a control character in a string: write it as \\u00..");
        if (*c == '\\') {
            size_t read = decode_escape(c + 1, close, to, &written);
            if (read == 0)
                return wrong(r, "\\ without a known escape in a string");
            c += read;
        } else {
            *to = *c;
        }
        to += written;
    }
    *to = 0;
    r->at = close + 1;
    *out = kept;
    return WEFT_OK;
}

static weft_status read_scalar(reader *r, const char **out)
{
    if (next_is(r, '"'))
        return read_string(r, out);
    size_t length = 0;
    while (r->at + length < r->end && (isalnum((unsigned char)r->at[length]) || strchr("+-.", r->at[length])))
        length++;
    if (length == 0)
        return wrong(r, "a value is missing");
    *out = weft_document_keep(r->d, r->at, length);
    r->at += length;
    return *out ? WEFT_OK : no_memory(r);
}

static weft_status read_object(reader *r, int element);

/* The value of member `name` of `element`. */
static weft_status read_value(reader *r, int element, const char *name, bool in_array)
{
    skip_space(r);
    if (next_is(r, '{')) {
        int child = weft_document_add(r->d, element, name, r->line);
        return child < 0 ? no_memory(r) : read_object(r, child);
    }
    if (next_is(r, '[')) {
        if (++r->depth > WEFT_DOCUMENT_DEPTH_MAX)
            return wrong(r, "arrays are nested deeper than 256 levels");
        weft_status status = WEFT_OK;
        if (!next_is(r, ']')) {
            do
                status = read_value(r, element, name, true);
            while (status == WEFT_OK && next_is(r, ','));
            if (status == WEFT_OK && !next_is(r, ']'))
                status = wrong(r, ", or ] is missing in an array");
        }
        r->depth--;
        return status;
    }
    const char *text;
    weft_status status = read_scalar(r, &text);
    if (status != WEFT_OK)
        return status;
    if (!in_array)
        return weft_document_add_attribute(r->d, element, name, text) ? WEFT_OK : no_memory(r);
    int child = weft_document_add(r->d, element, name, r->line);
    if (child < 0)
        return no_memory(r);
    r->d->element[child].text = text;
    return WEFT_OK;
}

static weft_status read_object(reader *r, int element)
{
    if (++r->depth > WEFT_DOCUMENT_DEPTH_MAX)
        return wrong(r, "objects are nested deeper than 256 levels");
    weft_status status = WEFT_OK;
    if (!next_is(r, '}')) {
        do {
            const char *name;
            if (!next_is(r, '"'))
                return wrong(r, "a member's name in quotes is missing");
            status = read_string(r, &name);
            if (status == WEFT_OK && !next_is(r, ':'))
                status = wrong(r, ": is missing after a member's name");
            if (status == WEFT_OK)
                status = read_value(r, element, name, false);
        } while (status == WEFT_OK && next_is(r, ','));
        if (status == WEFT_OK && !next_is(r, '}'))
            status = wrong(r, ", or } is missing in an object");
    }
    r->depth--;
    return status;
}

weft_status weft_json_parse(const char *text, size_t bytes, const char *file, weft_document *document)
{
    weft_status status = weft_document_create(document, bytes, file);
    reader r = {text, text + bytes, 1, 0, document};
    if (status == WEFT_OK && memchr(text, 0, bytes))
        status = wrong(&r, "bytes of value 0: the file is not text");
    if (status == WEFT_OK && weft_document_add(document, -1, "", 1) < 0)
        status = no_memory(&r);
    if (status == WEFT_OK)
        status = next_is(&r, '{') ? read_object(&r, 0) : wrong(&r, "{ is missing");
    skip_space(&r);
    if (status == WEFT_OK && r.at < r.end)
        status = wrong(&r, "something follows the end of the object");
    if (status != WEFT_OK)
        weft_document_free(document);
    return status;
}

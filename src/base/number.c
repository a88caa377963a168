/* The C locale for one call: what a program has chosen for its own texts stays as it is. */
#define _GNU_SOURCE
#include "base/number.h"

#include <pthread.h>
#include <stdlib.h>

static locale_t plain; /* (locale_t)0: no memory for it, and the program's own has to do */

static void make_plain(void)
{
    plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

static locale_t get_plain(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_plain);
    return plain;
}

double weft_strtod(const char *text, char **end)
{
    locale_t locale = get_plain();
    return locale ? strtod_l(text, end, locale) : strtod(text, end);
}

locale_t weft_number_begin(void)
{
    return uselocale(get_plain());
}

void weft_number_end(locale_t before)
{
    uselocale(before);
}

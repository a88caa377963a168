/* The parsers of sizes, times, numbers and type names: any text gives a value or an error with a detail. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/settings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    char text[128];
    size_t used = bytes < sizeof text ? bytes : sizeof text - 1;
    memcpy(text, data, used);
    text[used] = 0;

    int64_t value = -2;
    if (weft_parse_bytes(text, &value) == WEFT_OK ? value < 0 : !*weft_last_error())
        abort();
    if (weft_parse_ms(text, &value) == WEFT_OK ? value < -1 : !*weft_last_error())
        abort();
    if (weft_parse_int(text, -5, 5, &value) == WEFT_OK ? value < -5 || value > 5 : !*weft_last_error())
        abort();
    bool yes;
    weft_parse_bool(text, &yes);
    weft_type type;
    if (weft_type_parse(text, &type) == WEFT_OK && weft_type_bytes(type) == 0)
        abort();
    return 0;
}

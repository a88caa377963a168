/* Sets of logical CPUs as masks and lists. */
#include "topology/cpus.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void set_cpu(weft_cpus *cpus, long cpu)
{
    if (cpu >= 0 && cpu < WEFT_CPUS_MAX)
        cpus->word[cpu / 64] |= UINT64_C(1) << (cpu % 64);
}

static bool is_set(const weft_cpus *cpus, int cpu)
{
    return cpus->word[cpu / 64] >> (cpu % 64) & 1;
}

/* One 32-bit word of a mask, which may be empty (hwloc leaves out zeros); *text moves to the comma or the end. */
static bool parse_word(const char **text, uint32_t *word)
{
    const char *from = *text;
    if (strncmp(from, "0x", 2) == 0)
        from += 2;
    int digits = 0;
    *word = 0;
    for (; isxdigit((unsigned char)*from); from++, digits++)
        *word = *word << 4 | (uint32_t)(isdigit((unsigned char)*from) ? *from - '0' : tolower((unsigned char)*from) - 'a' + 10);
    *text = from;
    return digits <= 8 && (*from == ',' || *from == 0);
}

bool weft_cpus_parse_mask(const char *text, weft_cpus *cpus)
{
    memset(cpus, 0, sizeof *cpus);
    if (!*text || strncmp(text, "0xf...f", 7) == 0) /* hwloc: all, without end */
        return false;
    long words = 1;
    for (const char *c = text; *c; c++)
        words += *c == ',';
    for (long w = words - 1; w >= 0; w--) {
        uint32_t word;
        if (!parse_word(&text, &word))
            return false;
        for (int bit = 0; bit < 32; bit++)
            if (word >> bit & 1)
                set_cpu(cpus, w * 32 + bit);
        text += *text == ',';
    }
    return true;
}

/* One "a" or "a-b" of a list; *text moves behind it. */
static bool parse_range(const char **text, long *low, long *high)
{
    char *end;
    if (!isdigit((unsigned char)**text))
        return false;
    *low = *high = strtol(*text, &end, 10);
    if (*end == '-') {
        if (!isdigit((unsigned char)end[1]))
            return false;
        *high = strtol(end + 1, &end, 10);
    }
    *text = end;
    return *low <= *high;
}

bool weft_cpus_parse_list(const char *text, weft_cpus *cpus)
{
    memset(cpus, 0, sizeof *cpus);
    while (*text) {
        long low, high;
        while (isspace((unsigned char)*text))
            text++;
        if (!*text)
            return true;
        if (!parse_range(&text, &low, &high))
            return false;
        for (long cpu = low; cpu <= high && cpu < WEFT_CPUS_MAX; cpu++)
            set_cpu(cpus, cpu);
        while (isspace((unsigned char)*text))
            text++;
        if (*text == ',')
            text++;
        else if (*text)
            return false;
    }
    return true;
}

void weft_cpus_list(const weft_cpus *cpus, char *text, size_t bytes)
{
    size_t used = 0;
    text[0] = 0;
    for (int cpu = 0; cpu < WEFT_CPUS_MAX; cpu++) {
        if (!is_set(cpus, cpu))
            continue;
        int last = cpu;
        while (last + 1 < WEFT_CPUS_MAX && is_set(cpus, last + 1))
            last++;
        char range[32];
        int length = last > cpu ? snprintf(range, sizeof range, "%s%d-%d", used ? "," : "", cpu, last)
                                : snprintf(range, sizeof range, "%s%d", used ? "," : "", cpu);
        if (used + (size_t)length + 1 > bytes)
            return;
        memcpy(text + used, range, (size_t)length + 1);
        used += (size_t)length;
        cpu = last;
    }
}

void weft_cpus_mask(const weft_cpus *cpus, char *text, size_t bytes)
{
    int top = WEFT_CPUS_MAX / 32 - 1;
    while (top > 0 && (uint32_t)(cpus->word[top / 2] >> (top % 2 * 32)) == 0)
        top--;
    size_t used = 0;
    text[0] = 0;
    for (int w = top; w >= 0 && used + 10 <= bytes; w--)
        used += (size_t)snprintf(text + used, bytes - used, "%08x%s", (unsigned)(uint32_t)(cpus->word[w / 2] >> (w % 2 * 32)),
                                 w ? "," : "");
}

int weft_cpus_count(const weft_cpus *cpus)
{
    int count = 0;
    for (size_t i = 0; i < WEFT_CPUS_MAX / 64; i++)
        count += __builtin_popcountll(cpus->word[i]);
    return count;
}

int weft_cpus_first(const weft_cpus *cpus)
{
    for (int w = 0; w < WEFT_CPUS_MAX / 64; w++)
        if (cpus->word[w])
            return w * 64 + __builtin_ctzll(cpus->word[w]);
    return -1;
}

void weft_cpus_add(weft_cpus *to, const weft_cpus *more)
{
    for (size_t i = 0; i < WEFT_CPUS_MAX / 64; i++)
        to->word[i] |= more->word[i];
}

bool weft_cpus_has(const char *list, int cpu)
{
    while (*list) {
        long low, high;
        if (!parse_range(&list, &low, &high))
            return false;
        if (cpu >= low && cpu <= high)
            return true;
        list += *list == ',';
    }
    return false;
}

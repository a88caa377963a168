/* The table that weft-perf --tune writes: reading it, and looking it up. Lines: collective ranks hosts bytes algorithm;
 * an algorithm (auto: the untuned choice) holds from that many bytes up to the next line of the same collective and group. */
#include <stdio.h>
#include <string.h>

#include "base/settings.h"
#include "collectives/tune.h"

static weft_status bad_line(const char *path, int line, const char *what)
{
    return weft_fail(WEFT_ERR_PARSE, "%s:%d: %s; a line is: collective ranks hosts bytes algorithm", path, line, what);
}

static weft_status parse_line(const char *path, int number, char *line, weft_tuned *row)
{
    char *field[6], *rest = line;
    int fields = 0;
    for (char *token; fields < 6 && (token = strtok_r(rest, " \t\r\n", &rest));)
        field[fields++] = token;
    if (fields != 5)
        return bad_line(path, number, "not five fields");
    weft_collective collective;
    weft_algorithm algorithm;
    int64_t ranks, hosts, bytes;
    if (weft_collective_parse(field[0], &collective) != WEFT_OK)
        return bad_line(path, number, "unknown collective");
    if (weft_parse_int(field[1], 1, INT32_MAX, &ranks) != WEFT_OK || weft_parse_int(field[2], 1, INT32_MAX, &hosts) != WEFT_OK)
        return bad_line(path, number, "ranks and hosts must be numbers from 1");
    if (weft_parse_bytes(field[3], &bytes) != WEFT_OK)
        return bad_line(path, number, "bytes must be a size");
    if (weft_algorithm_parse(field[4], &algorithm) != WEFT_OK)
        return bad_line(path, number, "unknown algorithm");
    *row = (weft_tuned){.collective = (uint8_t)collective, .algorithm = (uint8_t)algorithm, .ranks = (int32_t)ranks,
                        .hosts = (int32_t)hosts, .bytes = (uint64_t)bytes};
    return WEFT_OK;
}

weft_status weft_tune_read(const char *path, weft_tuned *rows, int *count)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return weft_fail_errno(WEFT_ERR_SYSTEM, "tuning file '%s' cannot be read", path);
    char line[256];
    int number = 0, n = 0;
    weft_status status = WEFT_OK;
    while (status == WEFT_OK && fgets(line, sizeof line, file)) {
        number++;
        const char *start = line + strspn(line, " \t\r\n");
        if (*start == '#' || !*start)
            continue;
        if (n == WEFT_TUNED_MAX)
            status = weft_fail(WEFT_ERR_PARSE, "%s:%d: more than %d lines", path, number, WEFT_TUNED_MAX);
        else
            status = parse_line(path, number, line, &rows[n++]);
    }
    fclose(file);
    *count = status == WEFT_OK ? n : 0;
    return status;
}

/* The row that holds for that many bytes of this group, NULL if there is none. */
const weft_tuned *weft_tune_find(const weft_tuner *t, weft_collective collective, size_t bytes)
{
    const weft_tuned *best = NULL;
    for (int i = 0; i < t->table_count; i++) {
        const weft_tuned *row = &t->table[i];
        if (row->collective == collective && row->bytes <= bytes && (!best || row->bytes >= best->bytes))
            best = row;
    }
    return best;
}

void weft_tuner_use_table(weft_tuner *t, const weft_tuned *rows, int count)
{
    int hosts = 1;
    for (int r = 0; t->group.host && r < t->group.ranks; r++)
        if (t->group.host[r] + 1 > hosts)
            hosts = t->group.host[r] + 1;
    t->table_count = 0;
    for (int i = 0; i < count; i++)
        if (rows[i].ranks == t->group.ranks && rows[i].hosts == hosts)
            t->table[t->table_count++] = rows[i];
}

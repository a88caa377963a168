/* How many CPUs this host's ranks may use together: the union of their affinity masks, cut to the sum of
 * the cgroup CPU limits that they live under. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "transport/host_internal.h"

enum { PATH_BYTES = 512 };

/* Reads up to two numbers from a file; "max" counts as -1. How many there were. */
static int read_numbers(const char *path, long long numbers[2])
{
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    char text[128] = "";
    size_t n = fread(text, 1, sizeof(text) - 1, f);
    fclose(f);
    text[n] = 0;
    int count = 0;
    char *at = text;
    while (count < 2) {
        char *end;
        at += strspn(at, " \n");
        if (strncmp(at, "max", 3) == 0) {
            numbers[count++] = -1;
            at += 3;
            continue;
        }
        long long value = strtoll(at, &end, 10);
        if (end == at)
            break;
        numbers[count++] = value;
        at = end;
    }
    return count;
}

/* The limit of one cgroup directory in CPUs, rounded up; 0: none. */
static uint64_t directory_limit(const char *directory, bool version2)
{
    char path[PATH_BYTES + 32];
    long long numbers[2], period[2];
    if (version2) {
        snprintf(path, sizeof(path), "%s/cpu.max", directory);
        if (read_numbers(path, numbers) != 2)
            return 0;
        period[0] = numbers[1];
    } else {
        snprintf(path, sizeof(path), "%s/cpu.cfs_quota_us", directory);
        if (read_numbers(path, numbers) < 1)
            return 0;
        snprintf(path, sizeof(path), "%s/cpu.cfs_period_us", directory);
        if (read_numbers(path, period) < 1)
            return 0;
    }
    if (numbers[0] <= 0 || period[0] <= 0)
        return 0;
    return (uint64_t)((numbers[0] + period[0] - 1) / period[0]);
}

/* The tightest limit from the cgroup up to the root of its hierarchy. */
static void walk_up(weft_cpu_info *info, const char *root, const char *cgroup, bool version2)
{
    char directory[PATH_BYTES];
    int length = snprintf(directory, sizeof(directory), "%s%s", root, strcmp(cgroup, "/") == 0 ? "" : cgroup);
    if (length < 0 || (size_t)length >= sizeof(directory))
        return;
    size_t root_length = strlen(root);
    for (;;) {
        uint64_t cpus = directory_limit(directory, version2);
        struct stat where;
        if (cpus && (info->quota_cpus == 0 || cpus < info->quota_cpus) && stat(directory, &where) == 0) {
            info->quota_cpus = cpus;
            info->quota_id = (uint64_t)where.st_ino | 1ull << 63;
        }
        char *slash = strrchr(directory, '/');
        if (!slash || strlen(directory) <= root_length)
            return;
        *slash = 0;
    }
}

static void read_quota(weft_cpu_info *info)
{
    FILE *f = fopen("/proc/self/cgroup", "re");
    if (!f)
        return;
    char line[PATH_BYTES];
    while (fgets(line, sizeof(line), f)) {
        line[strcspn(line, "\n")] = 0;
        char *controllers = strchr(line, ':');
        char *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!path)
            continue;
        *path++ = 0;
        controllers++;
        if (*controllers == 0) { /* version 2 */
            walk_up(info, "/sys/fs/cgroup", path, true);
            walk_up(info, "/sys/fs/cgroup/unified", path, true);
        } else if (strcmp(controllers, "cpu") == 0 || strncmp(controllers, "cpu,", 4) == 0 ||
                   strstr(controllers, ",cpu,") ||
                   (strlen(controllers) > 4 && strcmp(controllers + strlen(controllers) - 4, ",cpu") == 0)) {
            walk_up(info, "/sys/fs/cgroup/cpu", path, false);
        }
    }
    fclose(f);
}

void weft_cpu_info_read(weft_cpu_info *info)
{
    memset(info, 0, sizeof(*info));
    if (sched_getaffinity(0, sizeof(info->mask), (cpu_set_t *)(void *)info->mask) < 0)
        info->mask[0] = 1;
    read_quota(info);
}

void weft_host_spread_out(const weft_host *h)
{
    cpu_set_t mine, one;
    CPU_ZERO(&one);
    if (sched_getaffinity(0, sizeof mine, &mine) != 0)
        return;
    int turn = h->index % CPU_COUNT(&mine);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &mine) && turn-- == 0)
            CPU_SET(cpu, &one);
    if (sched_setaffinity(0, sizeof one, &one) == 0)
        (void)sched_setaffinity(0, sizeof mine, &mine);
}

int weft_cpu_info_count(const weft_cpu_info *infos, const int *which, int count)
{
    int cpus = 0;
    uint64_t quota = 0;
    bool unlimited = false;
    for (int word = 0; word < WEFT_CPU_WORDS; word++) {
        uint64_t all = 0;
        for (int i = 0; i < count; i++)
            all |= infos[which[i]].mask[word];
        cpus += __builtin_popcountll(all);
    }
    for (int i = 0; i < count && !unlimited; i++) {
        const weft_cpu_info *info = &infos[which[i]];
        bool seen = false;
        for (int j = 0; j < i && !seen; j++)
            seen = infos[which[j]].quota_id == info->quota_id;
        unlimited = info->quota_id == 0;
        if (!seen)
            quota += info->quota_cpus;
    }
    if (!unlimited && (uint64_t)cpus > quota)
        cpus = (int)quota;
    return cpus > 0 ? cpus : 1;
}

/* By the files of the kernel: routes in /proc/net, devices and what lies below in /sys/class/net. */
#define _DEFAULT_SOURCE
#include "base/outward.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { LEVELS = 4, NAME_BYTES = 16 };

static bool has_device(const char *name, int levels)
{
    char path[64];
    snprintf(path, sizeof path, "/sys/class/net/%.15s/device", name);
    if (access(path, F_OK) == 0)
        return true;
    snprintf(path, sizeof path, "/sys/class/net/%.15s", name);
    DIR *folder = levels > 0 ? opendir(path) : NULL;
    bool found = false;
    for (const struct dirent *entry; folder && !found && (entry = readdir(folder));)
        found = strncmp(entry->d_name, "lower_", 6) == 0 && has_device(entry->d_name + 6, levels - 1);
    if (folder)
        closedir(folder);
    return found;
}

/* Of IPv4: "eth0 00000000 ...", the destination. */
static bool has_default_route(const char *name)
{
    char line[256], interface[NAME_BYTES], destination[16];
    FILE *routes = fopen("/proc/net/route", "re");
    bool found = false;
    while (routes && !found && fgets(line, sizeof line, routes))
        found = sscanf(line, "%15s %15s", interface, destination) == 2 && strcmp(destination, "00000000") == 0 &&
                strcmp(interface, name) == 0;
    if (routes)
        fclose(routes);
    return found;
}

/* Of IPv6: the destination first, the interface last. */
static bool has_default_route6(const char *name)
{
    char line[256], interface[NAME_BYTES], destination[40];
    FILE *routes = fopen("/proc/net/ipv6_route", "re");
    bool found = false;
    while (routes && !found && fgets(line, sizeof line, routes))
        found = sscanf(line, "%39s 00 %*s %*s %*s %*s %*s %*s %*s %15s", destination, interface) == 2 &&
                strspn(destination, "0") == 32 && strcmp(interface, name) == 0;
    if (routes)
        fclose(routes);
    return found;
}

bool weft_interface_leads_out(const char *name)
{
    return has_device(name, LEVELS) || has_default_route(name) || has_default_route6(name);
}

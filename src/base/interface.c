/* What leads out is told by files of the kernel: routes in /proc/net, devices and what lies below in /sys/class/net. */
#define _DEFAULT_SOURCE
#include "base/interface.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { LEVELS = 4, NAME_BYTES = 16 };

bool weft_name_in_list(const char *name, const char *list)
{
    bool whole = *list == '=';
    for (list += whole; *list; list += *list == ',') {
        size_t length = strcspn(list, ",");
        if (length > 0 && strncmp(name, list, length) == 0 && (!whole || !name[length]))
            return true;
        list += length;
    }
    return false;
}

bool weft_interface_allowed(const char *name, const char *setting)
{
    if (!setting || !*setting)
        return true;
    return *setting == '^' ? !weft_name_in_list(name, setting + 1) : weft_name_in_list(name, setting);
}

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

/* "eth0 00000000 ...": the interface, the destination. */
static bool is_default_route4(const char *line, char interface[NAME_BYTES])
{
    char destination[16];
    return sscanf(line, "%15s %15s", interface, destination) == 2 && strcmp(destination, "00000000") == 0;
}

/* The destination and its bits first, the interface last. */
static bool is_default_route6(const char *line, char interface[NAME_BYTES])
{
    char destination[40];
    return sscanf(line, "%39s 00 %*s %*s %*s %*s %*s %*s %*s %15s", destination, interface) == 2 &&
           strspn(destination, "0") == 32;
}

static bool has_default_route(const char *name, const char *file, bool (*is_default)(const char *line, char *interface))
{
    char line[256], interface[NAME_BYTES];
    FILE *routes = fopen(file, "re");
    bool found = false;
    while (routes && !found && fgets(line, sizeof line, routes))
        found = is_default(line, interface) && strcmp(interface, name) == 0;
    if (routes)
        fclose(routes);
    return found;
}

bool weft_interface_leads_out(const char *name)
{
    return has_device(name, LEVELS) || has_default_route(name, "/proc/net/route", is_default_route4) ||
           has_default_route(name, "/proc/net/ipv6_route", is_default_route6);
}

/* weft-net-test's command line: flags, values, help. What is wrong is said with the value and the remedy. */
#include "net-test_session.h"

#include <stdlib.h>
#include <string.h>

static const char usage_text[] =
    "Plays NCCL's proxy thread against network plugins of NCCL: checks that they do what NCCL\n"
    "needs, and measures them. No GPU and no NCCL is needed.\n"
    "\n"
    "usage: weft-net-test [flags] PLUGIN...\n"
    "\n"
    "PLUGIN: a path, or NAME for libnccl-net-NAME.so as in NCCL_NET_PLUGIN. Several are checked\n"
    "  one after the other and measured in turns, the first beside each other one.\n"
    "\n"
    "What is done (default: checks, then the measurement).\n"
    "      --check            the checks only\n"
    "      --speed            the measurement only\n"
    "      --no-kill          without the checks in which one side is killed\n"
    "\n"
    "With what.\n"
    "      --abi N            version of the ABI, 6 to 12 (default: the newest that it has)\n"
    "      --device N         the plugin's device (default: 0)\n"
    "      --fuse N           fuse N devices, from --device on, into a virtual one and use that\n"
    "      --largest BYTES    largest message of the checks (default: 64M)\n"
    "      --connections N    connections at once in the checks (default: 64)\n"
    "      --timeout SECONDS  the longest that a call may take to come to an end (default: 30)\n"
    "  -b, --first BYTES      smallest message measured (default: 8)\n"
    "  -e, --last BYTES       largest message measured (default: 16M)\n"
    "  -f, --factor N         from one size to the next (default: 4)\n"
    "      --in-flight N      requests in flight when bandwidth is measured (default: 32)\n"
    "      --rounds N         measurements per size, of which the median counts (default: 3)\n"
    "      --verbose          what the plugin logs, not only its warnings\n"
    "\n"
    "Where (default: both sides on this host).\n"
    "      --netns PID|PATH   the sending side in this network namespace\n"
    "      --listen PORT      be the receiving side, and wait for the sending side\n"
    "      --connect HOST:PORT  be the sending side of the one that listens there\n"
    "\n"
    "      --help             this text\n"
    "      --version          the version\n"
    "\n"
    "Exit code: 0; 1: a check failed or the plugin cannot be used; 2: wrong usage.\n";

void test_help(FILE *stream)
{
    fputs(usage_text, stream);
}

static test_action wrong(test_options *options, const char *format, ...) __attribute__((format(printf, 2, 3)));
static test_action wrong(test_options *options, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vsnprintf(options->error, sizeof options->error, format, list);
    va_end(list);
    return TEST_WRONG;
}

static bool number(const char *text, long low, long high, long *value)
{
    char *end;
    *value = strtol(text, &end, 10);
    return end != text && !*end && *value >= low && *value <= high;
}

/* "64K" and so on, binary. */
static bool byte_count(const char *text, size_t *value)
{
    static const char units[] = "KMG";
    char *end;
    unsigned long long count = strtoull(text, &end, 10);
    const char *unit = *end ? strchr(units, *end >= 'a' ? *end - 'a' + 'A' : *end) : NULL;
    if (end == text || *text == '-' || count > (1ull << 40) || (*end && (!unit || end[1])))
        return false;
    *value = (size_t)(count << (unit ? 10 * (unit - units + 1) : 0));
    return *value <= (size_t)1 << 40;
}

typedef struct number_flag {
    const char *name, *short_name;
    long low, high;
    int *value;
} number_flag;
typedef struct bytes_flag {
    const char *name, *short_name;
    size_t *value;
} bytes_flag;

static bool is(const char *text, const char *name, const char *short_name)
{
    return strcmp(text, name) == 0 || (short_name && strcmp(text, short_name) == 0);
}

/* A flag with a value; false if it is none of them. */
static bool valued(test_options *o, const char *flag, const char *value, test_action *action)
{
    const number_flag numbers[] = {
        {"--abi", NULL, NCCL_NET_OLDEST, NCCL_NET_NEWEST, &o->version}, {"--device", NULL, 0, 1023, &o->device},
        {"--fuse", NULL, 1, 8, &o->fuse}, {"--connections", NULL, 1, 65536, &o->connections},
        {"--timeout", NULL, 1, 86400, &o->timeout_s}, {"--factor", "-f", 2, 1 << 20, &o->factor},
        {"--in-flight", NULL, 1, NCCL_NET_REQUESTS, &o->in_flight}, {"--rounds", NULL, 1, 32, &o->rounds},
        {"--listen", NULL, 1, 65535, &o->listen_port},
    };
    const bytes_flag sizes[] = {
        {"--largest", NULL, &o->check_bytes}, {"--first", "-b", &o->first_bytes}, {"--last", "-e", &o->last_bytes}};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        long got;
        if (!is(flag, numbers[i].name, numbers[i].short_name))
            continue;
        if (!value || !number(value, numbers[i].low, numbers[i].high, &got))
            *action = wrong(o, "%s '%s': a number from %ld to %ld is needed", flag, value ? value : "", numbers[i].low,
                            numbers[i].high);
        else
            *numbers[i].value = (int)got;
        return true;
    }
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        if (!is(flag, sizes[i].name, sizes[i].short_name))
            continue;
        if (!value || !byte_count(value, sizes[i].value) || *sizes[i].value == 0)
            *action = wrong(o, "%s '%s': a size such as 64K or 1G is needed", flag, value ? value : "");
        return true;
    }
    if (strcmp(flag, "--netns") == 0) {
        o->netns = value;
        if (!value || !*value)
            *action = wrong(o, "--netns: a process id or the path of a network namespace is needed");
        return true;
    }
    if (strcmp(flag, "--connect") == 0) {
        const char *colon = value ? strrchr(value, ':') : NULL;
        long port;
        if (!colon || colon == value || !number(colon + 1, 1, 65535, &port) || (size_t)(colon - value) >= sizeof o->connect_host)
            *action = wrong(o, "--connect '%s': HOST:PORT is needed", value ? value : "");
        else
            snprintf(o->connect_host, sizeof o->connect_host, "%.*s", (int)(colon - value), value), o->connect_port = (int)port;
        return true;
    }
    return false;
}

test_action test_parse(int argc, char **argv, test_options *o)
{
    *o = (test_options){.connections = 64, .rounds = 3, .in_flight = NCCL_NET_REQUESTS, .first_bytes = 8, .last_bytes = 16 << 20,
                        .check_bytes = 64 << 20, .factor = 4, .timeout_s = 30, .check = true, .speed = true, .kill = true};
    test_action action = TEST_RUN;
    for (int i = 1; i < argc; i++) {
        const char *flag = argv[i];
        if (strcmp(flag, "--help") == 0)
            return TEST_HELP;
        if (strcmp(flag, "--version") == 0)
            return TEST_VERSION;
        if (strcmp(flag, "--check") == 0)
            o->speed = false;
        else if (strcmp(flag, "--speed") == 0)
            o->check = false;
        else if (strcmp(flag, "--no-kill") == 0)
            o->kill = false;
        else if (strcmp(flag, "--verbose") == 0)
            o->verbose = true;
        else if (valued(o, flag, i + 1 < argc ? argv[i + 1] : NULL, &action))
            i++;
        else if (*flag == '-')
            return wrong(o, "there is no flag '%s'; see --help", flag);
        else if (o->plugins == PLUGINS_MAX)
            return wrong(o, "'%s': at most %d plugins", flag, PLUGINS_MAX);
        else
            o->plugin[o->plugins++] = flag;
        if (action == TEST_WRONG)
            return action;
    }
    if (o->plugins == 0)
        return wrong(o, "which plugin? A path or a name is needed; see --help");
    if (!o->check && !o->speed)
        return wrong(o, "--check and --speed: one of them, or neither for both");
    if (o->first_bytes > o->last_bytes)
        return wrong(o, "--first %zu is larger than --last %zu", o->first_bytes, o->last_bytes);
    if (o->listen_port && o->connect_port)
        return wrong(o, "--listen and --connect: one side is one of them");
    if (o->listen_port || o->connect_port)
        o->kill = false;
    return action;
}

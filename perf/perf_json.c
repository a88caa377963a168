/* Writes JSON by hand: a few nested objects of strings, numbers and booleans. "args" has every setting in
 * force, the command line, and the WEFT_* variables that are set; "machine" has what a reader needs to
 * compare runs. */
#include "perf_json.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/output.h"
#include "perf_table.h"

extern char **environ;

/* ---- pieces ---- */

/* Bytes above 0x7f pass as they are where they are UTF-8, else as if they were Latin-1, so that the file is
 * always valid. */
static size_t utf8_length(const unsigned char *s)
{
    size_t length = s[0] < 0x80 ? 1 : s[0] >= 0xC2 && s[0] < 0xE0 ? 2 : s[0] >= 0xE0 && s[0] < 0xF0 ? 3
                  : s[0] >= 0xF0 && s[0] < 0xF5 ? 4 : 0;
    for (size_t i = 1; i < length; i++)
        if ((s[i] & 0xC0) != 0x80)
            return 0;
    bool surrogate_or_long = (s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F) ||
                             (s[0] == 0xF0 && s[1] < 0x90) || (s[0] == 0xF4 && s[1] > 0x8F);
    return length > 1 && surrogate_or_long ? 0 : length;
}

static void put_string(FILE *f, const char *text)
{
    fputc('"', f);
    for (const unsigned char *s = (const unsigned char *)text; *s != 0;) {
        size_t length = utf8_length(s);
        if (*s == '"' || *s == '\\')
            fprintf(f, "\\%c", *s);
        else if (*s < 0x20 || length == 0)
            fprintf(f, "\\u%04x", *s);
        else
            fwrite(s, 1, length, f);
        s += length > 0 ? length : 1;
    }
    fputc('"', f);
}

static void put_text(FILE *f, const char *before, const char *name, const char *text)
{
    fprintf(f, "%s\"%s\": ", before, name);
    if (text != NULL)
        put_string(f, text);
    else
        fputs("null", f);
}

static void put_integer(FILE *f, const char *before, const char *name, int64_t value)
{
    fprintf(f, "%s\"%s\": %" PRId64, before, name, value);
}

static void put_bool(FILE *f, const char *before, const char *name, bool value)
{
    fprintf(f, "%s\"%s\": %s", before, name, value ? "true" : "false");
}

static void put_real(FILE *f, const char *before, const char *name, double value)
{
    fprintf(f, "%s\"%s\": %.9g", before, name, isfinite(value) ? value : 0.0);
}

/* ---- machine ---- */

/* The value of the first line of /proc/cpuinfo that starts with one of these; "" where there is none. */
static void read_cpu_model(char *text, size_t bytes)
{
    static const char *const keys[] = { "model name", "cpu model", "Model", "CPU part" };
    FILE *f = fopen("/proc/cpuinfo", "r");
    char line[512];
    text[0] = 0;
    while (f != NULL && text[0] == 0 && fgets(line, sizeof line, f) != NULL) {
        char *value = strchr(line, ':');
        for (size_t i = 0; value != NULL && i < sizeof keys / sizeof keys[0]; i++) {
            if (strncmp(line, keys[i], strlen(keys[i])) != 0)
                continue;
            value += 1 + strspn(value + 1, " \t");
            value[strcspn(value, "\n")] = 0;
            snprintf(text, bytes, "%s", value);
            break;
        }
    }
    if (f != NULL)
        fclose(f);
}

static void put_machine(FILE *f)
{
    struct utsname name = { 0 };
    char model[256], kernel[sizeof name.sysname + sizeof name.release + 2];
    uname(&name);
    read_cpu_model(model, sizeof model);
    snprintf(kernel, sizeof kernel, "%s %s", name.sysname, name.release);
    fputs("  \"machine\": {", f);
    put_text(f, "", "hostname", name.nodename);
    put_text(f, ", ", "cpu", model[0] != 0 ? model : name.machine);
    put_integer(f, ", ", "cores", sysconf(_SC_NPROCESSORS_ONLN));
    put_text(f, ", ", "kernel", kernel);
    put_text(f, ", ", "architecture", name.machine);
    put_integer(f, ", ", "memory_bytes", (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE));
    put_text(f, ", ", "weft_build", weft_build_info());
    put_text(f, ", ", "compiler", __VERSION__);
    fputs("},\n", f);
}

/* ---- arguments ---- */

static void put_names(FILE *f, const perf_args *args)
{
    fputs(", \"types\": [", f);
    for (int i = 0; i < args->type_count; i++)
        fprintf(f, "%s\"%s\"", i > 0 ? ", " : "", weft_type_name(args->types[i]));
    fputs("], \"ops\": [", f);
    for (int i = 0; i < args->op_count; i++)
        fprintf(f, "%s\"%s\"", i > 0 ? ", " : "", weft_op_name(args->ops[i]));
    fputs("]", f);
}

static void put_command_and_environment(FILE *f, const perf_args *args)
{
    fputs(",\n    \"command\": [", f);
    for (int i = 0; i < args->argc; i++) {
        fputs(i > 0 ? ", " : "", f);
        put_string(f, args->argv[i]);
    }
    fputs("],\n    \"environment\": {", f);
    const char *separator = "";
    for (char **e = environ; *e != NULL; e++) {
        char name[128];
        const char *equals = strchr(*e, '=');
        if (strncmp(*e, "WEFT_", 5) != 0 || equals == NULL || (size_t)(equals - *e) >= sizeof name)
            continue;
        snprintf(name, sizeof name, "%.*s", (int)(equals - *e), *e);
        fputs(separator, f);
        put_string(f, name);
        fputs(": ", f);
        put_string(f, equals + 1);
        separator = ", ";
    }
    fputs("}", f);
}

static void put_args(FILE *f, const perf_context *x)
{
    const perf_args *args = x->args;
    fputs("  \"args\": {", f);
    put_text(f, "", "collective", perf_collective_name(args->collective));
    put_integer(f, ", ", "ranks", x->ranks);
    put_integer(f, ", ", "hosts", weft_comm_hosts(x->comm));
    put_bool(f, ", ", "forked", x->one_clock);
    put_integer(f, ", ", "minbytes", (int64_t)args->min_bytes);
    put_integer(f, ", ", "maxbytes", (int64_t)args->max_bytes);
    put_integer(f, ", ", "stepfactor", args->step_bytes != 0 ? 1 : args->step_factor);
    put_integer(f, ", ", "stepbytes", (int64_t)args->step_bytes);
    put_integer(f, ",\n    ", "iters", args->iterations);
    put_integer(f, ", ", "warmup_iters", args->warmup);
    put_integer(f, ", ", "check", args->check);
    put_names(f, args);
    put_integer(f, ", ", "root", args->root);
    put_text(f, ",\n    ", "transport", args->transport);
    put_text(f, ", ", "algorithm", args->algorithm);
    put_integer(f, ", ", "lanes", args->lanes);
    put_integer(f, ", ", "slice_bytes", (int64_t)args->slice_bytes);
    put_bool(f, ", ", "in_place", args->in_place);
    put_bool(f, ", ", "out_of_place", args->out_of_place);
    put_bool(f, ", ", "cold", args->cold);
    put_integer(f, ", ", "async", args->async);
    put_bool(f, ", ", "registered", args->registered);
    put_bool(f, ", ", "bind", args->bind);
    put_command_and_environment(f, args);
    fputs("},\n", f);
}

/* ---- results ---- */

static void put_result(FILE *f, const perf_result *r)
{
    put_text(f, "    {", "collective", perf_collective_name(r->c.collective));
    put_integer(f, ", ", "bytes", (int64_t)r->c.bytes);
    put_integer(f, ", ", "count", (int64_t)r->c.count);
    put_text(f, ", ", "type", weft_type_name(r->c.type));
    put_text(f, ", ", "op", perf_op_text(&r->c));
    if (r->c.root >= 0)
        put_integer(f, ", ", "root", r->c.root);
    put_integer(f, ", ", "ranks", r->c.ranks);
    put_text(f, ", ", "algorithm", r->algorithm);
    put_text(f, ", ", "transport", r->transport);
    put_bool(f, ", ", "in_place", r->c.in_place);
    put_real(f, ", \"time_us\": {", "min", r->min_us);
    put_real(f, ", ", "p50", r->p50_us);
    put_real(f, ", ", "p99", r->p99_us);
    put_real(f, ", ", "max", r->max_us);
    put_real(f, "}, ", "algbw_GBps", r->algbw_GBps);
    put_real(f, ", ", "busbw_GBps", r->busbw_GBps);
    if (r->wrong < 0)
        fputs(", \"wrong\": null}", f);
    else
        fprintf(f, ", \"wrong\": %" PRId64 "}", r->wrong);
}

static bool fail(const perf_context *x, const char *what)
{
    fprintf(stderr, "%s: -J %s: %s: %s; give a file that can be written, on a disk with room\n",
            x->args->program, x->args->json_file, what, strerror(errno));
    return false;
}

bool perf_json_probe(const perf_context *x)
{
    return weft_output_check(x->args->json_file) || fail(x, "cannot open");
}

static void put_all(FILE *f, const perf_context *x, const perf_result *results, size_t count)
{
    fputs("{\n", f);
    put_text(f, "  ", "version", weft_version());
    fputs(",\n", f);
    put_machine(f);
    put_args(f, x);
    fputs("  \"results\": [", f);
    for (size_t i = 0; i < count; i++) {
        fputs(i > 0 ? ",\n" : "\n", f);
        put_result(f, &results[i]);
    }
    fputs("\n  ]\n}\n", f);
}

bool perf_json_write(const perf_context *x, const perf_result *results, size_t count)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *f = open_memstream(&text, &bytes);
    if (f != NULL)
        put_all(f, x, results, count);
    bool written = f != NULL && fclose(f) == 0 && weft_output_write(x->args->json_file, text, bytes);
    if (!written)
        fail(x, "cannot write");
    free(text);
    return written;
}

/* weft-topo --check and --diff: findings with remedies, differences line by line. Uses only the public headers. */
#include "topo_args.h"

typedef struct tally {
    bool color;
    int faults;
} tally;

static void print_finding(void *context, const weft_finding *finding)
{
    static const char *const level[] = {
        [WEFT_FINDING_HINT] = "hint", [WEFT_FINDING_WARNING] = "warning", [WEFT_FINDING_FAULT] = "fault"};
    static const char *const paint[] = {
        [WEFT_FINDING_HINT] = "\x1b[36m", [WEFT_FINDING_WARNING] = "\x1b[33m", [WEFT_FINDING_FAULT] = "\x1b[31m"};
    tally *t = context;
    t->faults += finding->level == WEFT_FINDING_FAULT;
    printf("%s%s%s: %s\n    remedy: %s\n", t->color ? paint[finding->level] : "", level[finding->level],
           t->color ? "\x1b[0m" : "", finding->text, finding->remedy);
}

int topo_show_check(const weft_topology *t, bool color)
{
    tally all = {color, 0};
    int count = weft_topology_diagnose(t, print_finding, &all);
    if (count == 0)
        puts("nothing is wrong that can be seen here");
    for (int i = 0; weft_topology_note(t, i); i++)
        printf("not seen, or guessed: %s\n", weft_topology_note(t, i));
    return all.faults ? TOPO_EXIT_FAILED : 0;
}

static void print_difference(void *context, const char *line)
{
    (void)context;
    puts(line);
}

int topo_show_diff(const char *first, const char *second)
{
    weft_topology *a = NULL, *b = NULL;
    int found = -1;
    if (weft_topology_load(first, &a) != WEFT_OK || weft_topology_load(second, &b) != WEFT_OK)
        fprintf(stderr, "weft-topo: %s\n", weft_last_error());
    else if ((found = weft_topology_diff(a, b, print_difference, NULL)) < 0)
        fprintf(stderr, "weft-topo: no memory to compare\n");
    weft_topology_free(a);
    weft_topology_free(b);
    return found == 0 ? 0 : TOPO_EXIT_FAILED;
}

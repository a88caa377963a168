/* The verbs transport: the conformance suite over fake devices, which exist in this process only. With the argument "real": over
 * those that there are, as in the machine of tests/rdma. */
#include "conformance.h"

#ifdef WEFT_HAVE_VERBS
#include <stdlib.h>
#include <string.h>

#include "../fake_verbs.h"

static const conformance_subject subject = {.name = "verbs"};
static const conformance_subject real = {.name = "verbs", .notices_death = true, .share = 10};

static void check_nothing_left(void)
{
    if (fake_verbs_not_ready())
        fprintf(stderr, "%llu messages found no receive buffer\n", (unsigned long long)fake_verbs_not_ready());
    if (fake_verbs_open_objects() || fake_verbs_registrations())
        fprintf(stderr, "left open: %d objects, %d registrations\n", fake_verbs_open_objects(), fake_verbs_registrations());
}

int main(int count, char **arguments)
{
    int failed = 0;
    if (count > 1 && strcmp(arguments[1], "real") == 0)
        return conformance_run("verbs", &real);
    if (count > 1) /* "present": is it in this build? */
        return 0;
    for (int devices = 1; devices <= 2; devices++) {
        fake_verbs_use(devices);
        failed += conformance_run(devices == 1 ? "verbs, a fake device" : "verbs, two fake devices", &subject);
        check_nothing_left();
        failed += fake_verbs_not_ready() || fake_verbs_open_objects() || fake_verbs_registrations();
    }
    return failed;
}
#else
int main(void)
{
    puts("verbs is not in this build, for want of libibverbs-dev");
    return 77;
}
#endif

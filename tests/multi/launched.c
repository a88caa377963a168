/* A program for real launchers (tests/multi/launchers.sh, dead_host.sh): finds its rank, size and meeting place in the
 * environment, meets the other ranks, all-gathers with them, and says so; as often as its argument says. "await-death": says
 * "ready" then, and sleeps until a rank has died. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/control.h"

static weft_status await_death(const weft_control *c)
{
    weft_notice notice;
    printf("ready\n");
    fflush(stdout);
    for (int i = 0; i < 4000; i++) {
        if (weft_control_failed(c, &notice)) {
            printf("%s\n", notice.text);
            return WEFT_OK;
        }
        poll(NULL, 0, 10);
    }
    return weft_fail(WEFT_ERR_TIMEOUT, "nobody died");
}

static weft_status meet(const weft_launch *launch, bool death)
{
    weft_control *c = NULL;
    weft_control_config config = { .rank = launch->rank, .size = launch->size, .kind = launch->kind, .url = launch->url,
                                   .token = launch->token, .store = &launch->store,
                                   .deadline_ns = weft_deadline_ns(30000), .dead_peer_ms = death ? 2000 : 10000 };
    weft_status status = weft_control_create(&config, &c);
    int *all = calloc((size_t)launch->size, sizeof *all), mine = launch->rank * 3 + 1;
    if (status == WEFT_OK)
        status = weft_control_allgather(c, &mine, all, sizeof mine, weft_deadline_ns(30000));
    for (int r = 0; r < launch->size && status == WEFT_OK; r++) {
        if (all[r] != r * 3 + 1)
            status = weft_fail(WEFT_ERR_INTERNAL, "rank %d's number is %d", r, all[r]);
    }
    free(all);
    if (status == WEFT_OK && death)
        status = await_death(c);
    weft_control_destroy(c, 10000);
    return status;
}

int main(int count, char **arguments)
{
    bool death = count > 1 && strcmp(arguments[1], "await-death") == 0;
    long rounds = death ? 1 : count > 1 ? strtol(arguments[1], NULL, 10) : 1;
    for (long round = 1; round <= rounds; round++) {
        weft_launch launch = { 0 };
        weft_status status = weft_launch_detect(&launch);
        if (status == WEFT_OK)
            status = meet(&launch, death);
        if (death && status == WEFT_OK)
            return 0;
        char line[256];
        int bytes = snprintf(line, sizeof line, "rank %d of %d by %s, round %ld: %s\n", launch.rank, launch.size,
                             launch.launcher != NULL ? launch.launcher : "?", round,
                             status == WEFT_OK ? "good" : weft_last_error());
        fwrite(line, 1, (size_t)bytes < sizeof line ? (size_t)bytes : sizeof line - 1, stdout);
        fflush(stdout);
        weft_launch_release(&launch);
        if (status != WEFT_OK)
            return 1;
    }
    return 0;
}

/* Starts the ranks of a library that brings no launcher, as cheaply as one can: RANK and WORLD_SIZE set, the command executed.
 * Usage: compare-spawn RANKS COMMAND... Exit code: the worst of the ranks'. Ranks end with it. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static void be_rank(int rank, pid_t parent, char **command)
{
    char text[16];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    snprintf(text, sizeof text, "%d", rank);
    setenv("RANK", text, 1);
    if (getppid() == parent)
        execvp(command[0], command);
    fprintf(stderr, "compare-spawn: %s: %s\n", command[0], strerror(errno));
    _exit(127);
}

int main(int argc, char **argv)
{
    long ranks = argc > 2 ? strtol(argv[1], NULL, 10) : 0;
    int worst = 0, status;
    pid_t parent = getpid();
    if (ranks < 1 || ranks > 100000) {
        fprintf(stderr, "usage: compare-spawn RANKS COMMAND...\n");
        return 2;
    }
    setenv("WORLD_SIZE", argv[1], 1);
    for (int rank = 0; rank < ranks; rank++) {
        pid_t child = fork();
        if (child == 0)
            be_rank(rank, parent, argv + 2);
        if (child < 0) {
            fprintf(stderr, "compare-spawn: rank %d of %ld: %s\n", rank, ranks, strerror(errno));
            return 1; /* the others go with us */
        }
    }
    while (wait(&status) > 0) {
        int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        worst = code > worst ? code : worst;
        /* The others wait for one that is gone: whoever started us has the patience or not. */
        if (code != 0)
            fprintf(stderr, "compare-spawn: a rank ended with %d\n", code);
    }
    return worst;
}

/* weft-net-test: checks and measures network plugins of NCCL. Makes the two sides, receiving here and sending in a child (or on
 * another host), and runs cases and measurement on both; those are net-test_*.c's. */
#define _GNU_SOURCE
#include "net-test_session.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <weft/weft.h>

/* ---- one side ---- */

/* A table may be filled by its init(). */
static bool has_operations(session *s, bool before_init)
{
    const char *lacking = nccl_net_lacks(s->plugin->table);
    if (!lacking || (before_init && strcmp(lacking, "init") != 0))
        return true;
    return session_fail(s, "the table ncclNetPlugin_v%d lacks the operation %s()%s", s->plugin->version, lacking,
                        before_init ? "" : " (after init())");
}

static bool open_plugin(session *s, plugin *p, const test_options *options, const char *name)
{
    int devices = 0, parts[8];
    s->plugin = p;
    s->what = "loading";
    if (!plugin_load(p, name, options->version, s->reason, sizeof s->reason)) {
        char reason[sizeof s->reason];
        memcpy(reason, s->reason, sizeof reason);
        return session_fail(s, "%s", reason);
    }
    s->device = options->device;
    if (!has_operations(s, true) || !session_good(s, plugin_init(p, options->verbose), "init") || !has_operations(s, false) ||
        !session_good(s, plugin_devices(p, &devices), "devices"))
        return false;
    if (options->device + (options->fuse ? options->fuse : 1) > devices)
        return session_fail(s, "it has %d devices, no device %d", devices,
                            options->device + (options->fuse ? options->fuse : 1) - 1);
    if (options->fuse) {
        for (int i = 0; i < options->fuse; i++)
            parts[i] = options->device + i;
        if (!plugin_can_fuse(p))
            return session_fail(s, "version %d of its ABI cannot fuse devices", p->version);
        if (!session_good(s, plugin_fuse(p, &s->device, parts, options->fuse), "makeVDevice"))
            return false;
    }
    return session_good(s, plugin_properties(p, s->device, &s->properties), "getProperties");
}

static int report_failure(const session *s)
{
    if (s->receives || s->options->connect_port) {
        fflush(stdout);
        fprintf(stderr, "weft-net-test: %s: %s: %s\n", s->plugin->label[0] ? s->plugin->label : "plugin", s->what, s->reason);
    }
    return 1;
}

/* All that one side does with all plugins over one channel. */
static int run_side(const test_options *options, bool receives, int channel)
{
    static plugin plugins[PLUGINS_MAX];
    static session sessions[PLUGINS_MAX];
    for (int i = 0; i < options->plugins; i++) {
        session *s = &sessions[i];
        *s = (session){.options = options, .receives = receives, .channel = channel, .plugin = &plugins[i]};
        if (!open_plugin(s, &plugins[i], options, options->plugin[i]) || !session_meet(s))
            return report_failure(s);
        if (options->check && receives)
            printf("%s, version %d of the ABI, device %d\n", plugins[i].label, plugins[i].version, s->device);
        if (options->check && !cases_run(s))
            return report_failure(s);
    }
    if (options->speed && !speed_run(sessions, options->plugins)) {
        for (int i = 0; i < options->plugins; i++) {
            if (sessions[i].failed)
                return report_failure(&sessions[i]);
        }
    }
    for (int i = 0; i < options->plugins; i++) {
        sessions[i].what = "end";
        if (!session_good(&sessions[i], plugin_finalize(&plugins[i]), "finalize"))
            return report_failure(&sessions[i]);
        plugin_unload(&plugins[i]);
    }
    return 0;
}

static int run_killed(const test_options *options, const char *name, bool receives, bool victim, int channel)
{
    static plugin p;
    session s = {.options = options, .receives = receives, .channel = channel, .plugin = &p};
    if (!open_plugin(&s, &p, options, name) || !session_meet(&s) || !case_killed(&s, victim)) {
        fflush(stdout);
        if (!victim)
            fprintf(stderr, "weft-net-test: %s: %s: %s\n", name, s.what, s.reason);
        return 1;
    }
    return 0;
}

/* ---- two sides on this host ---- */

static bool enter_netns(const char *where)
{
    char path[512];
    bool is_pid = strspn(where, "0123456789") == strlen(where);
    snprintf(path, sizeof path, is_pid ? "/proc/%s/ns/net" : "%s", where);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, CLONE_NEWNET) != 0) {
        fprintf(stderr, "weft-net-test: cannot enter the network namespace %s: %s\n", path, strerror(errno));
        return false;
    }
    close(fd);
    return true;
}

static bool make_channel(int channel[2])
{
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel) == 0)
        return true;
    fprintf(stderr, "weft-net-test: cannot make a socket pair: %s\n", strerror(errno));
    return false;
}

/* The other side in a child; returns its pid, 0 in the child, -1. */
static pid_t fork_side(int channel[2])
{
    if (!make_channel(channel))
        return -1;
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        fprintf(stderr, "weft-net-test: cannot fork: %s\n", strerror(errno));
    if (pid >= 0)
        close(channel[pid ? 1 : 0]);
    return pid;
}

static int wait_for(pid_t pid)
{
    int status;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR)
            return 1;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

/* For one that this side need not wait for: it has failed, or it blocks in the plugin. */
static int end_child(pid_t pid)
{
    for (int i = 0; i < 100; i++) {
        int status;
        if (waitpid(pid, &status, WNOHANG) == pid)
            return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
        usleep(10000);
    }
    kill(pid, SIGKILL);
    return wait_for(pid);
}

/* The receiving side here, the sending one in a child. */
static int run_pair(const test_options *options)
{
    int channel[2];
    pid_t sender = fork_side(channel);
    if (sender < 0)
        return 1;
    if (sender == 0)
        exit(options->netns && !enter_netns(options->netns) ? 1 : run_side(options, false, channel[1]));
    int result = run_side(options, true, channel[0]);
    close(channel[0]);
    int other = result ? end_child(sender) : wait_for(sender);
    return result ? result : other;
}

static int run_kills(const test_options *options)
{
    for (int i = 0; i < options->plugins; i++) {
        for (int receiver_dies = 0; receiver_dies < 2; receiver_dies++) {
            int channel[2];
            pid_t victim = fork_side(channel);
            if (victim < 0)
                return 1;
            if (victim == 0) {
                if (options->netns && !receiver_dies && !enter_netns(options->netns))
                    exit(1);
                exit(run_killed(options, options->plugin[i], receiver_dies, true, channel[1]));
            }
            pid_t survivor = fork();
            if (survivor == 0) {
                if (options->netns && receiver_dies && !enter_netns(options->netns))
                    exit(1);
                exit(run_killed(options, options->plugin[i], !receiver_dies, false, channel[0]));
            }
            close(channel[0]);
            int result = survivor > 0 ? wait_for(survivor) : 1;
            wait_for(victim);
            if (result)
                return result;
        }
    }
    return 0;
}

/* ---- two hosts ---- */

static int wait_for_sender(int port)
{
    int on = 1, off = 0;
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0), accepted = -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 1) != 0)
        fprintf(stderr, "weft-net-test: cannot listen on port %d: %s\n", port, strerror(errno));
    else if ((accepted = accept(fd, NULL, NULL)) < 0)
        fprintf(stderr, "weft-net-test: cannot accept: %s\n", strerror(errno));
    if (fd >= 0)
        close(fd);
    return accepted;
}

static int dial_receiver(const char *host, int port)
{
    char service[16];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    int fd = -1;
    snprintf(service, sizeof service, "%d", port);
    int error = getaddrinfo(host, service, &hints, &found);
    for (const struct addrinfo *at = found; at && fd < 0; at = at->ai_next) {
        fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && connect(fd, at->ai_addr, at->ai_addrlen) != 0) {
            close(fd);
            fd = -1;
        }
    }
    if (fd < 0)
        fprintf(stderr, "weft-net-test: cannot connect to %s:%d: %s\n", host, port,
                error ? gai_strerror(error) : strerror(errno));
    if (found)
        freeaddrinfo(found);
    return fd;
}

static int run_remote(const test_options *options)
{
    int on = 1, channel = options->listen_port ? wait_for_sender(options->listen_port)
                                               : dial_receiver(options->connect_host, options->connect_port);
    if (channel < 0)
        return 1;
    setsockopt(channel, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return run_side(options, options->listen_port != 0, channel);
}

static int run(const test_options *options)
{
    signal(SIGPIPE, SIG_IGN);
    if (options->listen_port || options->connect_port)
        return run_remote(options);
    int result = options->check && options->kill ? run_kills(options) : 0;
    return result ? result : run_pair(options);
}

int main(int argc, char **argv)
{
    test_options options;
    int result = 0;
    switch (test_parse(argc, argv, &options)) {
    case TEST_HELP: test_help(stdout); break;
    case TEST_VERSION: printf("weft-net-test %s\n", weft_version()); break;
    case TEST_WRONG: fprintf(stderr, "weft-net-test: %s\n", options.error); return 2;
    case TEST_RUN: result = run(&options); break;
    }
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "weft-net-test: cannot write to standard output: %s\n", strerror(errno));
        return 1;
    }
    return result;
}

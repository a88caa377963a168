/* Lists the devices of the NCCL plugin named first. For each further name it sends a message from that device to itself, over
 * both of a pair A+B fused, or as A/B from one to another, and says what each fake adapter of RDMA carried of it. Both sides are
 * in this process, as the adapters are. */
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/plugin/nccl_abi.h"

enum { BYTES = 4 << 20, TURNS = 1000000 };

static const nccl_net_v12 *net;

static void say(nccl_log_level level, unsigned long flags, const char *file, int line, const char *format, ...)
{
    va_list list;
    (void)level, (void)flags, (void)file, (void)line;
    va_start(list, format);
    vprintf(format, list);
    va_end(list);
    putchar('\n');
}

#define CHECK(call)                                                                                                            \
    do {                                                                                                                       \
        if ((call) != NCCL_SUCCESS) {                                                                                          \
            printf("%s failed\n", #call);                                                                                      \
            exit(1);                                                                                                           \
        }                                                                                                                      \
    } while (0)

static int find(const char *name)
{
    int count = 0;
    CHECK(net->devices(&count));
    for (int i = 0; i < count; i++) {
        nccl_net_properties_v12 p;
        CHECK(net->getProperties(i, &p));
        if (strcmp(p.name, name) == 0)
            return i;
    }
    printf("there is no device %s\n", name);
    exit(1);
}

static int find_or_fuse(const char *name)
{
    const char *plus = strchr(name, '+');
    if (!plus)
        return find(name);
    char first[64];
    int fused;
    snprintf(first, sizeof first, "%.*s", (int)(plus - name), name);
    nccl_net_vdevice_v12 parts = {.ndevs = 2, .devs = {find(first), find(plus + 1)}};
    CHECK(net->makeVDevice(&fused, &parts));
    if (find(name) != fused) {
        printf("%s is not device %d\n", name, fused);
        exit(1);
    }
    return fused;
}

static void pass(void *context, const char *name)
{
    const char *slash = strchr(name, '/');
    char dialler[64];
    snprintf(dialler, sizeof dialler, "%.*s", (int)strcspn(name, "/"), name);
    int from_device = find_or_fuse(dialler), device = slash ? find(slash + 1) : from_device, done = 0, size = 0, tag = 3;
    char handle[NCCL_NET_HANDLE_BYTES] = {0};
    unsigned char *from = malloc(BYTES), *to = calloc(1, BYTES);
    void *listen = NULL, *out = NULL, *in = NULL, *memory[2], *request[2] = {NULL, NULL}, *data = to;
    nccl_net_device_handle *offload = NULL;
    size_t bytes = BYTES;
    for (size_t i = 0; i < BYTES; i++)
        from[i] = (unsigned char)(i * 7 + i / 1000);
    CHECK(net->listen(context, device, handle, &listen));
    for (int i = 0; i < TURNS && (!out || !in); i++) {
        if (!out)
            CHECK(net->connect(context, from_device, handle, &out, &offload));
        if (!in)
            CHECK(net->accept(listen, &in, &offload));
    }
    CHECK(out && in ? NCCL_SUCCESS : NCCL_SYSTEM_ERROR);
    CHECK(net->regMr(out, from, BYTES, NCCL_PTR_HOST, &memory[0]));
    CHECK(net->regMr(in, to, BYTES, NCCL_PTR_HOST, &memory[1]));
    CHECK(net->irecv(in, 1, &data, &bytes, &tag, &memory[1], NULL, &request[1]));
    CHECK(net->isend(out, from, BYTES, tag, memory[0], NULL, &request[0]));
    for (int side = 0, i = 0; side < 2 && i < TURNS; i++) {
        if (side == 0) { /* both sides move */
            int other = 0;
            CHECK(net->test(request[0], &done, NULL));
            if (!done && request[1]) {
                CHECK(net->test(request[1], &other, &size));
                request[1] = other ? NULL : request[1];
            }
        } else if (request[1]) {
            CHECK(net->test(request[1], &done, &size));
        }
        if (done || (side == 1 && !request[1])) {
            side++;
            done = 0;
        }
    }
    CHECK(size == BYTES && memcmp(from, to, BYTES) == 0 ? NCCL_SUCCESS : NCCL_SYSTEM_ERROR);
    CHECK(net->deregMr(out, memory[0]));
    CHECK(net->deregMr(in, memory[1]));
    CHECK(net->closeSend(out));
    CHECK(net->closeRecv(in));
    CHECK(net->closeListen(listen));
    free(from);
    free(to);
}

int main(int argc, char **argv)
{
    void *library = argc > 1 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL, *context = NULL;
    net = library ? dlsym(library, "ncclNetPlugin_v12") : NULL;
    if (!net) {
        printf("usage: net_pair PLUGIN [NAME...]: %s\n", dlerror());
        return 2;
    }
    int count = 0;
    CHECK(net->init(&context, 1, NULL, say, NULL));
    CHECK(net->devices(&count));
    for (int i = 0; i < count; i++) {
        nccl_net_properties_v12 p;
        CHECK(net->getProperties(i, &p));
        printf("device %s port %d speed %d on %s guid %d\n", p.name, p.port, p.speed, p.pciPath ? strrchr(p.pciPath, '/') : "/-",
               p.guid != 0);
    }
    void *verbs = dlopen("libibverbs.so.1", RTLD_NOW | RTLD_NOLOAD);
    uint64_t (*sent)(int) = NULL;
    if (verbs)
        *(void **)(void *)&sent = dlsym(verbs, "fake_verbs_sent");
    for (int i = 2; i < argc; i++) {
        uint64_t before[2] = {sent ? sent(0) : 0, sent ? sent(1) : 0};
        pass(context, argv[i]);
        printf("sent %s:", argv[i]);
        for (int device = 0; device < 2; device++) /* in parts of the message */
            printf(" %.1f", sent ? (double)(sent(device) - before[device]) / BYTES : 0.);
        putchar('\n');
    }
    CHECK(net->finalize(context));
    return 0;
}

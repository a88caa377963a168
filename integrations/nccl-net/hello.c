/* The first words of both sides, NCCL's log and the small things that all files use. */
#define _GNU_SOURCE
#include "nccl_net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char magic[8] = {'W', 'E', 'F', 'T', 'N', 'C', 'C', 'L'};

/* Set by every init() to the same function; read by all threads. */
static _Atomic(nccl_log_function) log_function;

void net_set_log(nccl_log_function log)
{
    atomic_store_explicit(&log_function, log, memory_order_relaxed);
}

static void say(nccl_log_level level, const char *format, va_list list)
{
    char text[1024];
    nccl_log_function log = atomic_load_explicit(&log_function, memory_order_relaxed);
    vsnprintf(text, sizeof text, format, list);
    if (log)
        log(level, level == NCCL_LOG_WARN ? ~0ul : NCCL_LOG_NET | NCCL_LOG_INIT, "weft", 0, "NET/Weft: %s", text);
    else if (level == NCCL_LOG_WARN)
        fprintf(stderr, "NET/Weft: %s\n", text);
}

void net_warn(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    say(NCCL_LOG_WARN, format, list);
    va_end(list);
}

void net_info(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    say(NCCL_LOG_INFO, format, list);
    va_end(list);
}

nccl_result net_result(weft_status status)
{
    switch (status) {
    case WEFT_OK:
    case WEFT_IN_PROGRESS: return NCCL_SUCCESS;
    case WEFT_ERR_PEER:
    case WEFT_ERR_TIMEOUT: return NCCL_REMOTE_ERROR;
    case WEFT_ERR_SYSTEM:
    case WEFT_ERR_MEMORY: return NCCL_SYSTEM_ERROR;
    case WEFT_ERR_INVALID:
    case WEFT_ERR_PARSE: return NCCL_INVALID_ARGUMENT;
    case WEFT_ERR_USAGE:
    case WEFT_ERR_MISMATCH:
    case WEFT_ERR_TRUNCATED:
    case WEFT_ERR_VERSION: return NCCL_INVALID_USAGE;
    default: return NCCL_INTERNAL_ERROR;
    }
}

int64_t net_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t net_now_ms(void)
{
    return net_now_ns() / 1000000;
}

const char *net_setting(const char *name)
{
    const char *text = getenv(name);
    return text && *text ? text : NULL;
}

const char *net_address_text(const net_address *address, char text[NET_ADDRESS_TEXT])
{
    char host[INET6_ADDRSTRLEN] = "?";
    if (address->any.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &address->v6.sin6_addr, host, sizeof host);
        snprintf(text, NET_ADDRESS_TEXT, "[%s]:%u", host, ntohs(address->v6.sin6_port));
    } else {
        inet_ntop(AF_INET, &address->v4.sin_addr, host, sizeof host);
        snprintf(text, NET_ADDRESS_TEXT, "%s:%u", host, ntohs(address->v4.sin_port));
    }
    return text;
}

socklen_t net_address_bytes(const net_address *address)
{
    return address->any.sa_family == AF_INET6 ? sizeof address->v6 : sizeof address->v4;
}

void net_hello_begin(net_hello *hello, uint64_t job)
{
    char host[64] = "?";
    memset(hello, 0, sizeof *hello);
    memcpy(hello->magic, magic, sizeof magic);
    hello->version = NET_VERSION;
    hello->job = job;
    gethostname(host, sizeof host - 1);
    snprintf(hello->name, sizeof hello->name, "%s pid %d", host, (int)getpid());
}

bool net_hello_check(net_hello *hello, uint64_t job, const char **why)
{
    *why = NULL;
    hello->name[sizeof hello->name - 1] = 0;
    hello->reason[sizeof hello->reason - 1] = 0;
    if (memcmp(hello->magic, magic, sizeof magic) != 0)
        *why = "it does not speak this plugin's protocol";
    else if (hello->version != NET_VERSION)
        *why = "it is another version of this plugin; use one version in the whole job";
    else if (hello->job != job)
        *why = "it looks for another listener";
    else if (hello->protection != 0)
        *why = "it wants encryption, which this version does not have";
    else if (hello->offers > NET_TRANSPORTS_MAX)
        *why = "its offer makes no sense";
    for (uint32_t i = 0; !*why && i < hello->offers; i++) {
        hello->offer[i].transport[sizeof hello->offer[i].transport - 1] = 0;
        if (hello->offer[i].bytes > sizeof hello->offer[i].address)
            *why = "its offer makes no sense";
    }
    return !*why;
}

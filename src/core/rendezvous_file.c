/* The file of a file:///path rendezvous. Written beside and renamed, so that nobody reads half of it; a stale one of an
 * earlier run leads nowhere or to a server with another token, and is read again until the right one is there. */
#include "core/rendezvous_file.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

enum { TEXT_BYTES = 1024 };

weft_status weft_file_write(weft_file_place *file, const char *path, const weft_endpoint *endpoint, uint64_t token)
{
    char text[TEXT_BYTES], beside[600];
    int used = snprintf(text, sizeof text, "weft-meeting 1 %016" PRIx64 " %u", token, endpoint->port);
    for (int i = 0; i < endpoint->count; i++) {
        char host[INET6_ADDRSTRLEN] = "";
        inet_ntop(endpoint->addresses[i].family == 4 ? AF_INET : AF_INET6, endpoint->addresses[i].bytes, host, sizeof host);
        used += snprintf(text + used, sizeof text - (size_t)used, " %s", host);
    }
    used += snprintf(text + used, sizeof text - (size_t)used, " end\n");
    if (unlink(path) != 0 && errno != ENOENT)
        return weft_fail_errno(WEFT_ERR_SYSTEM, "meeting place file://%s: cannot remove the file of an earlier run", path);
    snprintf(beside, sizeof beside, "%s.%016" PRIx64, path, token);
    int fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0)
        return weft_fail_errno(WEFT_ERR_SYSTEM, "meeting place file://%s: cannot write there", path);
    bool written = write(fd, text, (size_t)used) == used;
    if (close(fd) != 0 || !written || rename(beside, path) != 0) {
        weft_status status = weft_fail_errno(WEFT_ERR_SYSTEM, "meeting place file://%s: cannot write there", path);
        unlink(beside);
        return status;
    }
    snprintf(file->path, sizeof file->path, "%s", path);
    file->token = token;
    return WEFT_OK;
}

void weft_file_remove(weft_file_place *file)
{
    weft_endpoint endpoint;
    uint64_t token;
    char kept[1024];
    if (file->path[0] == 0)
        return;
    /* This is no failure of the caller's: keep the detail that is there. */
    snprintf(kept, sizeof kept, "%s", weft_last_error());
    if (weft_file_read(file->path, &endpoint, &token) == WEFT_OK && token == file->token)
        unlink(file->path);
    file->path[0] = 0;
    weft_clear_error();
    if (kept[0] != 0)
        weft_fail(WEFT_ERR_SYSTEM, "%s", kept);
}

bool weft_file_parse(const char *text, weft_endpoint *endpoint, uint64_t *token)
{
    int at = 0;
    unsigned port;
    memset(endpoint, 0, sizeof *endpoint);
    if (sscanf(text, "weft-meeting 1 %16" SCNx64 " %5u%n", token, &port, &at) != 2 || port == 0 || port > 65535)
        return false;
    endpoint->port = (uint16_t)port;
    for (;;) {
        char host[INET6_ADDRSTRLEN];
        int length = 0;
        if (sscanf(text + at, " %45s%n", host, &length) != 1)
            return false; /* cut off */
        at += length;
        if (strcmp(host, "end") == 0)
            return endpoint->count > 0;
        if (endpoint->count == WEFT_ENDPOINT_ADDRESSES)
            return false;
        uint8_t *bytes = endpoint->addresses[endpoint->count].bytes;
        if (inet_pton(AF_INET, host, bytes) == 1)
            endpoint->addresses[endpoint->count++].family = 4;
        else if (inet_pton(AF_INET6, host, bytes) == 1)
            endpoint->addresses[endpoint->count++].family = 6;
        else
            return false;
    }
}

weft_status weft_file_read(const char *path, weft_endpoint *endpoint, uint64_t *token)
{
    char text[TEXT_BYTES];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return weft_fail_errno(WEFT_ERR_TIMEOUT, "rank 0 has not written %s", path);
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    if (!weft_file_parse(text, endpoint, token))
        return weft_fail(WEFT_ERR_TIMEOUT, "%s is not a file of weft's rank 0", path);
    return WEFT_OK;
}

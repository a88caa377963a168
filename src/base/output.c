/* A regular file is written beside and renamed, where that can be done without its owner noticing: in a folder that may be
 * written, with one name, not mounted by itself. Else in its place, when the disk has promised the room. */
#define _GNU_SOURCE
#include "base/output.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAME_TRIES = 100 };

/* Keeps errno. */
static bool end(int fd, const char *remove)
{
    int error = errno;
    if (fd >= 0)
        close(fd);
    if (remove)
        unlink(remove);
    errno = error;
    return false;
}

bool weft_output_write_all(int fd, const void *data, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t n = write(fd, (const char *)data + done, bytes - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    return true;
}

/* Beyond ulimit -f a write would end the process. */
static bool may_be_so_long(size_t bytes)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY || bytes <= limit.rlim_cur)
        return true;
    errno = EFBIG;
    return false;
}

/* The standard stream that this file is, -1: none. `weft-perf -J /dev/stdout >file` goes on where the table ended. */
static int standard_stream(const struct stat *file)
{
    for (int fd = STDOUT_FILENO; fd <= STDERR_FILENO; fd++) {
        struct stat own;
        if (fstat(fd, &own) == 0 && own.st_dev == file->st_dev && own.st_ino == file->st_ino)
            return fd;
    }
    return -1;
}

static bool write_in_place(const char *path, const char *text, size_t bytes)
{
    struct stat before;
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0 || fstat(fd, &before) != 0)
        return end(fd, NULL);
    bool regular = S_ISREG(before.st_mode);
    if (regular && bytes > 0) {
        int error = posix_fallocate(fd, 0, (off_t)bytes);
        if (error == ENOSPC || error == EDQUOT || error == EFBIG) {
            if (ftruncate(fd, before.st_size) != 0) {
                /* then it stays longer, by zeros */
            }
            errno = error;
            return end(fd, NULL);
        }
    }
    if (!weft_output_write_all(fd, text, bytes) || (regular && ftruncate(fd, (off_t)bytes) != 0))
        return end(fd, NULL);
    return close(fd) == 0;
}

/* A new file in the folder of `path`. */
static int open_beside(const char *path, char beside[PATH_MAX])
{
    const char *slash = strrchr(path, '/');
    int folder = slash ? (int)(slash + 1 - path) : 0, fd = -1;
    for (int i = 0; i < NAME_TRIES; i++) {
        if (snprintf(beside, PATH_MAX, "%.*s.weft-%d-%d", folder, path, (int)getpid(), i) >= PATH_MAX) {
            errno = ENAMETOOLONG;
            return -1;
        }
        fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd >= 0 || errno != EEXIST)
            break;
    }
    return fd;
}

static bool is_locked_folder(int error)
{
    return error == EACCES || error == EPERM || error == EROFS;
}

/* `old`: the regular file that is there, NULL: none. */
static bool replace(const char *path, const struct stat *old, const char *text, size_t bytes)
{
    char beside[PATH_MAX];
    int fd = open_beside(path, beside);
    if (fd < 0)
        return old && is_locked_folder(errno) && write_in_place(path, text, bytes);
    bool written = weft_output_write_all(fd, text, bytes);
    /* Another's file stays that one's, which only root can do by a new one. */
    bool same = !old || (fchown(fd, old->st_uid, old->st_gid) == 0 && fchmod(fd, old->st_mode & 07777) == 0);
    if (!written)
        return end(fd, beside);
    if (close(fd) != 0)
        return end(-1, beside);
    if (same && rename(beside, path) == 0)
        return true;
    end(-1, beside);
    return old && (!same || is_locked_folder(errno) || errno == EBUSY || errno == EXDEV) && write_in_place(path, text, bytes);
}

bool weft_output_write(const char *path, const char *text, size_t bytes)
{
    struct stat old;
    char target[PATH_MAX];
    bool exists = stat(path, &old) == 0;
    if (!exists && errno != ENOENT)
        return false;
    int stream = exists ? standard_stream(&old) : -1;
    if (stream >= 0) {
        fflush(NULL);
        return weft_output_write_all(stream, text, bytes);
    }
    if (exists && !S_ISREG(old.st_mode))
        return write_in_place(path, text, bytes);
    if (!may_be_so_long(bytes) || (exists && faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) != 0))
        return false;
    bool descriptor = strncmp(path, "/dev/", 5) == 0 || strncmp(path, "/proc/", 6) == 0; /* that somebody holds */
    bool link = readlink(path, target, sizeof target) >= 0;
    if (descriptor || (exists && old.st_nlink > 1) || (link && !realpath(path, target)))
        return write_in_place(path, text, bytes);
    return replace(link ? target : path, exists ? &old : NULL, text, bytes);
}

bool weft_output_check(const char *path)
{
    struct stat old;
    char beside[PATH_MAX];
    if (stat(path, &old) == 0) {
        if (S_ISDIR(old.st_mode)) {
            errno = EISDIR;
            return false;
        }
        return standard_stream(&old) >= 0 || faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) == 0;
    }
    if (errno != ENOENT)
        return false;
    int fd = open_beside(path, beside);
    if (fd < 0)
        return false;
    end(fd, beside);
    return true;
}

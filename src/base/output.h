/* Files that programs leave for others to read. Programs use it too: it knows nothing of weft. */
#ifndef WEFT_BASE_OUTPUT_H
#define WEFT_BASE_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>

/* Puts text[bytes] into the file `path`, whole or not at all: false, and errno says why, leaves an earlier file as it was and
 * makes no new one. A symbolic link is followed; what is no regular file (a FIFO, /dev/stdout) is just written to. */
bool weft_output_write(const char *path, const char *text, size_t bytes);
/* All of it, in as many calls as it takes. False: errno says why. */
bool weft_output_write_all(int fd, const void *data, size_t bytes);
/* Could it be written now? Changes nothing, opens no FIFO. False: errno says why not. */
bool weft_output_check(const char *path);
#endif

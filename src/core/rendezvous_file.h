/* The file of a file:///path rendezvous: rank 0's addresses and a random token, written at one stroke. */
#ifndef WEFT_RENDEZVOUS_FILE_H
#define WEFT_RENDEZVOUS_FILE_H

#include "core/rendezvous.h"

typedef struct weft_file_place { char path[512]; uint64_t token; } weft_file_place;

weft_status weft_file_write(weft_file_place *file, const char *path, const weft_endpoint *endpoint, uint64_t token);
/* Removes it if it is still the one that was written. Takes a zeroed one. */
void weft_file_remove(weft_file_place *file);
/* WEFT_ERR_TIMEOUT with the detail said: it is not there yet (or no file of ours). */
weft_status weft_file_read(const char *path, weft_endpoint *endpoint, uint64_t *token);
/* The parser; text ends with 0. */
bool weft_file_parse(const char *text, weft_endpoint *endpoint, uint64_t *token);
#endif

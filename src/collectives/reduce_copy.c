/* weft_copy: memcpy that leaves the cache alone for what is too large to stay there. */
#include "collectives/reduce.h"

#include <string.h>

/* From here on non-temporal stores are faster than memcpy (whose own limit is most of a last-level cache that
 * all cores share): source and destination no longer fit a core's second-level cache together. */
enum { STREAM_BYTES = 2 << 20 };

#if defined(__x86_64__)
#include <immintrin.h>

/* Four pages at once keep more of the memory's banks busy than one. */
enum { PAGE_BYTES = 4096, PAGES = 4 };

/* dst is aligned to 64. */
static void stream_pages(char *dst, const char *src)
{
    for (size_t line = 0; line < PAGE_BYTES; line += 64) {
        for (size_t at = line; at < PAGES * PAGE_BYTES; at += PAGE_BYTES) {
            __m128i a = _mm_loadu_si128((const __m128i_u *)(src + at));
            __m128i b = _mm_loadu_si128((const __m128i_u *)(src + at + 16));
            __m128i c = _mm_loadu_si128((const __m128i_u *)(src + at + 32));
            __m128i d = _mm_loadu_si128((const __m128i_u *)(src + at + 48));
            _mm_stream_si128((__m128i *)(void *)(dst + at), a);
            _mm_stream_si128((__m128i *)(void *)(dst + at + 16), b);
            _mm_stream_si128((__m128i *)(void *)(dst + at + 32), c);
            _mm_stream_si128((__m128i *)(void *)(dst + at + 48), d);
        }
    }
}

static void stream(char *dst, const char *src, size_t bytes)
{
    size_t head = -(uintptr_t)dst % 64;
    memcpy(dst, src, head);
    size_t done = head;
    for (; bytes - done >= PAGES * PAGE_BYTES; done += PAGES * PAGE_BYTES)
        stream_pages(dst + done, src + done);
    /* Non-temporal stores are weakly ordered: before whatever tells another rank that the data are there. */
    _mm_sfence();
    memcpy(dst + done, src + done, bytes - done);
}
#endif

void weft_copy_part(void *dst, const void *src, size_t bytes)
{
    if (bytes == 0 || dst == src)
        return;
#if defined(__x86_64__)
    if (bytes >= PAGES * PAGE_BYTES) {
        stream(dst, src, bytes);
        return;
    }
#endif
    memcpy(dst, src, bytes);
}

void weft_copy(void *dst, const void *src, size_t bytes)
{
    if (bytes >= STREAM_BYTES)
        weft_copy_part(dst, src, bytes);
    else if (bytes > 0 && dst != src)
        memcpy(dst, src, bytes);
}

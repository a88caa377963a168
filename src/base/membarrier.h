/* One-sided fences: who does a thing often orders its memory accesses for the compiler only, who does its counterpart seldom
 * makes the kernel run a fence on every core that runs one of the others (membarrier). */
#ifndef WEFT_MEMBARRIER_H
#define WEFT_MEMBARRIER_H

#include "base/base.h"

#if defined(__SANITIZE_THREAD__)
#define WEFT_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WEFT_TSAN 1
#endif
#endif

/* Makes this process one that such fences reach. The kernel takes microseconds for it in a process of a single thread, else
 * 10 to 30 ms; the second form does it only in the former. */
void weft_membarrier_register(void);
void weft_membarrier_register_alone(void);
/* It is one. Never where the kernel (or who confines this process) has no such call, nor under ThreadSanitizer. */
bool weft_membarrier_ready(void);
/* A fence on all threads of this process; and on all processes of this kernel that are ready. */
void weft_membarrier_threads(void);
void weft_membarrier_processes(void);

#endif

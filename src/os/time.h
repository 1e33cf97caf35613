/* time.h -- clocks. Virtual under simulation. */
#pragma once
#include "base/ctx.h"
#include <stdint.h>

CTX_ANY_BEGIN
uint64_t os_now_monotonic_ns(void);
uint64_t os_now_realtime_ns(void);
uint64_t os_thread_cpu_ns(void); /* CPU time of the calling thread */
CTX_ANY_END

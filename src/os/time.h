/* time.h -- clocks. Virtual under simulation. */
#pragma once
#include "base/ctx.h"
#include <stdint.h>
#include <sys/types.h>

CTX_ANY_BEGIN
uint64_t os_now_monotonic_ns(void);
uint64_t os_now_realtime_ns(void);
uint64_t os_thread_cpu_ns(void); /* CPU time of the calling thread */
/* CPU time of all threads of @pid, the ended ones included. -ESRCH: no such process. */
int os_process_cpu_ns(pid_t pid, uint64_t *ret_ns);
CTX_ANY_END

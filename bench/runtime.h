/*
 * runtime.h -- benchmarks of the runtime and of its peers: one program, one case a run.
 *
 * A case measures for some seconds and reports numbers by name. Ours and its peer do the same work
 * on the same threads; run.py runs them in turn.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/ctx.h"

CTX_ANY_BEGIN

struct bench_case {
    const char *name;
    void (*run)(double seconds);
};

/* End with an entry without a name. */
extern const struct bench_case bench_ours[], bench_ours_threads[], bench_uv[], bench_glib[],
    bench_bare[];

/* The one free argument of a case: a file's path. NULL: none. */
extern const char *bench_path;

/* Print one number of this run; @name: "ns", "per_s"… */
void bench_report(const char *name, double value);

/* Cannot be measured here: says why and ends the program (status 77). */
void bench_skip(const char *why) __attribute__((noreturn));

uint64_t bench_now_ns(void);

/* The calling thread, and those it starts, run on @cpu only. */
void bench_pin(int cpu);

/* Room for @count descriptors, or bench_skip(). */
void bench_want_files(unsigned count);

/* Calls of malloc and its like by this process so far. */
uint64_t bench_allocations(void);

/* Every so often: is the time over? */
struct bench_clock {
    uint64_t began_ns, end_ns;
    uint64_t cpu_began_ns; /* of the process */
    unsigned calls;
};
void bench_clock_start(struct bench_clock *clock, double seconds);
/* Looks at the clock every 64th time. */
bool bench_clock_is_over(struct bench_clock *clock);
/* Nanoseconds since the start for each of @count. */
double bench_clock_ns_each(const struct bench_clock *clock, uint64_t count);

/* The same in CPU time of the process, for cases of one thread that never sleeps: what else the
 * machine does is not in it. */
double bench_clock_cpu_ns_each(const struct bench_clock *clock, uint64_t count);

CTX_ANY_END

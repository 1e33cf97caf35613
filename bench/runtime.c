/*
 * runtime.c -- main() of the runtime's benchmarks, and what the cases share.
 *
 *   bench-runtime CASE SECONDS [PATH]    one JSON object of numbers
 *   bench-runtime --list                 the cases there are
 */
#include "runtime.h"
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include "base/macros.h"
#include "sync/asym.h"
#include "sync/atomic.h"

const char *bench_path;
static unsigned reported;

static const struct bench_case *const tables[] = {
    bench_ours, bench_ours_threads, bench_bare,
#ifdef HAVE_UV
    bench_uv,
#endif
#ifdef HAVE_GLIB
    bench_glib,
#endif
};

void bench_report(const char *name, double value)
{
    printf("%s\"%s\": %.6g", reported++ ? ", " : "{", name, value);
}

void bench_skip(const char *why)
{
    printf("skipped: %s\n", why);
    fflush(stdout);
    exit(77);
}

uint64_t bench_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void bench_pin(int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    if (pthread_setaffinity_np(pthread_self(), sizeof(set), &set) != 0) {
        bench_skip("threads cannot be pinned to a CPU here");
    }
}

void bench_want_files(unsigned count)
{
    struct rlimit limit;

    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur < count) {
        bench_skip("too few descriptors are allowed (ulimit -n)");
    }
}

static uint64_t cpu_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void bench_clock_start(struct bench_clock *clock, double seconds)
{
    clock->calls = 0;
    clock->cpu_began_ns = cpu_now_ns();
    clock->began_ns = bench_now_ns();
    clock->end_ns = clock->began_ns + (uint64_t)(seconds * 1e9);
}

bool bench_clock_is_over(struct bench_clock *clock)
{
    return ++clock->calls % 64 == 0 && bench_now_ns() >= clock->end_ns;
}

double bench_clock_ns_each(const struct bench_clock *clock, uint64_t count)
{
    return (double)(bench_now_ns() - clock->began_ns) / (double)max_of(count, (uint64_t)1);
}

double bench_clock_cpu_ns_each(const struct bench_clock *clock, uint64_t count)
{
    return (double)(cpu_now_ns() - clock->cpu_began_ns) / (double)max_of(count, (uint64_t)1);
}

/* ---- counted allocations ---- */

static uint64_t allocations; /* atomic */

void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *old, size_t bytes);
void *__libc_memalign(size_t alignment, size_t bytes);
int posix_memalign(void **ret, size_t alignment, size_t bytes);

void *malloc(size_t bytes)
{
    at_add(&allocations, 1);
    return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
    at_add(&allocations, 1);
    return __libc_calloc(count, bytes);
}

void *realloc(void *old, size_t bytes)
{
    at_add(&allocations, 1);
    return __libc_realloc(old, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    at_add(&allocations, 1);
    return __libc_memalign(alignment, bytes);
}

int posix_memalign(void **ret, size_t alignment, size_t bytes)
{
    at_add(&allocations, 1);
    *ret = __libc_memalign(alignment, bytes);
    return *ret != NULL ? 0 : ENOMEM;
}

uint64_t bench_allocations(void)
{
    return at_load(&allocations);
}

/* ---- */

static int list(void)
{
    for (size_t i = 0; i < countof(tables); i++) {
        for (const struct bench_case *entry = tables[i]; entry->name != NULL; entry++) {
            puts(entry->name);
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        return list();
    }
    if (argc < 3) {
        fprintf(stderr, "usage: %s CASE SECONDS [PATH]\n", argv[0]);
        return 2;
    }
    bench_path = argc > 3 ? argv[3] : NULL;
    asym_init();
    for (size_t i = 0; i < countof(tables); i++) {
        for (const struct bench_case *entry = tables[i]; entry->name != NULL; entry++) {
            if (strcmp(entry->name, argv[1]) == 0) {
                entry->run(strtod(argv[2], NULL));
                puts("}");
                return 0;
            }
        }
    }
    bench_skip("this program was built without that case");
}

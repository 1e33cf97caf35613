/* home.h -- a home for coroutines without a loop: a list, run by hand. And death tests. */
#pragma once
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "co/co.h"

struct home {
    struct co_sched sched;
    struct co *head, *tail;
};

ANY_THREAD
static inline void home_ready(struct co_sched *sched, struct co *co)
{
    struct home *home = container_of(sched, struct home, sched);

    *co_link(co) = NULL;
    if (home->head == NULL) {
        home->head = co;
    } else {
        *co_link(home->tail) = co;
    }
    home->tail = co;
}

static inline void home_init(struct home *home)
{
    co_sched_init(&home->sched, home_ready);
    home->head = home->tail = NULL;
}

/* This program's one thread is the home of everything. */
ANY_THREAD ASSERTS(ctx_home)
static inline void home_is_here(void)
{
}

/* Until nobody is ready. */
static inline void home_run(struct home *home)
{
    home_is_here();
    while (home->head != NULL) {
        struct co *co = home->head;

        home->head = *co_link(co);
        co_resume(co);
    }
}

/* A new coroutine, begun. */
static inline struct co *home_start(struct home *home, co_fn *fn, void *opaque, const char *name)
{
    struct co *co = co_new(fn, opaque, &home->sched, name);

    home_is_here();
    co_start(co);
    return co;
}

/* @fn must abort, having said every one of @texts (NULL-terminated). Not under the thread
 * sanitizer: a child of a process with fibers knows nothing of earlier synchronisation, so it
 * reports false races. */
static inline void expect_death(void (*fn)(void), const char *const *texts)
{
#ifdef CAISSON_TSAN
    print_message("skipped: a death test under the thread sanitizer\n");
#else
    char said[4096];
    size_t bytes = 0;
    ssize_t got;
    int fds[2], status;
    pid_t child;

    assert_int_equal(pipe(fds), 0);
    child = fork();
    if (child == 0) {
        dup2(fds[1], 2);
        fn();
        _exit(0);
    }
    close(fds[1]);
    while ((got = read(fds[0], said + bytes, sizeof(said) - 1 - bytes)) > 0) {
        bytes += (size_t)got;
    }
    close(fds[0]);
    said[bytes] = '\0';
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        fail_msg("it lives");
    }
    for (; *texts != NULL; texts++) {
        if (strstr(said, *texts) == NULL) {
            fail_msg("'%s' does not say '%s'", said, *texts);
        }
    }
#endif
}
#define DIES_SAYING(fn, ...) expect_death(fn, (const char *const[]){__VA_ARGS__, NULL})

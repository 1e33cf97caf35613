/*
 * harness.h -- a main loop for a test, and a coroutine in it.
 *
 * The engine under test comes from the command line (`--engine=epoll`), so each test program runs
 * once per engine. A watchdog ends a test that hangs.
 */
#pragma once
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/macros.h"
#include "loop/io.h"
#include "loop/loop.h"

enum { HANG_SECONDS = 60 };
static enum loop_engine_kind test_engine = LOOP_ENGINE_IO_URING;

/* Call first in main(). */
static inline void test_begin(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--engine=epoll") == 0) {
        test_engine = LOOP_ENGINE_EPOLL;
    }
    alarm(HANG_SECONDS);
}

static bool test_is_hosted; /* the loops are inside a host program */

static inline struct loop *test_loop_new(const char *name)
{
    struct loop_config config = {.name = name, .engine = test_engine, .is_hosted = test_is_hosted};
    struct err *error = NULL;
    struct loop *loop = loop_new(&config, &error);

    if (loop == NULL) {
        fail_msg("%s", error->text);
    }
    return loop;
}

static inline void test_loop_free(struct loop *loop)
{
    struct err *error = NULL;

    loop_assert_home(loop);
    if (loop_free(loop, &error) < 0) {
        fail_msg("%s", error->text);
    }
}

static inline int setup_loop(void **state)
{
    *state = test_loop_new("main");
    return 0;
}

static inline int teardown_loop(void **state)
{
    test_loop_free(*state);
    return 0;
}

struct test_co {
    void (*fn)(void *opaque);
    void *opaque;
};

static inline void test_co_main(void *opaque)
{
    struct test_co *test = opaque;

    test->fn(test->opaque);
    loop_stop(loop_self());
}

/* Run @fn as a coroutine of this thread's loop; returns when it has ended. cmocka's asserts
 * jump, so inside @fn use expect(). */
static inline void run_co(void (*fn)(void *opaque), void *opaque)
{
    struct test_co test = {fn, opaque};

    loop_co_spawn(loop_self(), test_co_main, &test, "test");
    loop_run(loop_self());
}

/* An assert that works on any thread and in coroutines. */
#define expect(condition)                                                                          \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            panic("%s:%d: expected %s", __FILE__, __LINE__, #condition);                           \
        }                                                                                          \
    } while (0)

#define loop_test(fn) cmocka_unit_test_setup_teardown(fn, setup_loop, teardown_loop)

/*
 * twin_rcu.c -- RCU for the explorer.
 *
 * Each outermost read section has a number. A grace period notes who is inside which section and
 * ends when each of them has left it; sections that begin later do not delay it, as in the real
 * one.
 */
#include "explore.h"
#include "sync/rcu.h"
#include <string.h>

enum { CALLS_MAX = 64, SLOTS = EXPLORE_ACTORS_MAX + 1 };

static struct {
    bool registered;
    unsigned depth;
    unsigned long section;
} readers[SLOTS];

struct grace {
    unsigned long section[SLOTS]; /* 0: was outside */
};

static struct {
    struct rcu_node *node;
    struct grace grace;
} calls[CALLS_MAX];
static unsigned long called, completed;

static void reset(void)
{
    memset(readers, 0, sizeof(readers));
    called = completed = 0;
}

__attribute__((constructor)) static void init(void)
{
    explore_at_reset(reset);
}

static unsigned me(void)
{
    return (unsigned)(explore_self() + 1);
}

void rcu_thread_register(void)
{
    explore_check(!readers[me()].registered);
    readers[me()].registered = true;
}

void rcu_thread_unregister(void)
{
    explore_check(readers[me()].registered && readers[me()].depth == 0);
    readers[me()].registered = false;
}

bool rcu_thread_is_registered(void)
{
    return readers[me()].registered;
}

void rcu_read_enter(void)
{
    explore_check(readers[me()].registered);
    explore_step("rcu-read-enter");
    if (readers[me()].depth++ == 0) {
        readers[me()].section++;
    }
}

void rcu_read_leave(void)
{
    explore_check(readers[me()].depth > 0);
    explore_step("rcu-read-leave");
    readers[me()].depth--;
}

bool rcu_is_reading(void)
{
    return readers[me()].depth > 0;
}

void rcu_thread_offline(void)
{
    explore_check(readers[me()].registered && readers[me()].depth == 0);
}

void rcu_thread_online(void)
{
    explore_check(readers[me()].registered && readers[me()].depth == 0);
}

static struct grace grace_begin(void)
{
    struct grace grace = {{0}};

    for (unsigned i = 0; i < SLOTS; i++) {
        grace.section[i] = readers[i].depth > 0 ? readers[i].section : 0;
    }
    return grace;
}

static bool grace_is_over(void *opaque)
{
    const struct grace *grace = opaque;

    for (unsigned i = 0; i < SLOTS; i++) {
        if (grace->section[i] != 0 && readers[i].depth > 0 &&
            readers[i].section == grace->section[i]) {
            return false;
        }
    }
    return true;
}

void rcu_synchronize(void)
{
    struct grace grace;

    explore_check(readers[me()].depth == 0);
    explore_step("rcu-synchronize");
    grace = grace_begin();
    explore_wait(grace_is_over, &grace, "rcu-synchronize");
}

static bool call_is_due(void *opaque)
{
    return completed < called && grace_is_over(&calls[completed % CALLS_MAX].grace);
}

static void run_calls(void *opaque)
{
    for (;;) {
        struct rcu_node *node;

        explore_wait(call_is_due, NULL, "rcu-call");
        node = calls[completed % CALLS_MAX].node;
        node->fn(node);
        completed++;
    }
}

void rcu_call(struct rcu_node *node, void (*fn)(struct rcu_node *node))
{
    explore_check(readers[me()].registered);
    explore_step("rcu-call");
    if (called == 0) {
        explore_spawn(run_calls, NULL, true);
    }
    explore_check(called - completed < CALLS_MAX);
    node->fn = fn;
    calls[called % CALLS_MAX].node = node;
    calls[called % CALLS_MAX].grace = grace_begin();
    called++;
}

static bool calls_are_complete(void *opaque)
{
    return completed >= (unsigned long)(uintptr_t)opaque;
}

void rcu_barrier_wait(void)
{
    explore_check(readers[me()].depth == 0);
    explore_wait(calls_are_complete, (void *)(uintptr_t)called, "rcu-barrier");
}

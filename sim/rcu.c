/*
 * rcu.c -- sync/rcu.h for the simulator. A task may be left in a read section (a kick in one is a
 * call of os/), so grace periods are real: each notes who is inside which section and waits for
 * those. Callbacks run on a task of their own, after a delay, as liburcu's thread does it.
 */
#include "sync/rcu.h"
#include "base/mem.h"
#include "sim/sim_int.h"
#include <string.h>

static struct {
    bool registered;
    unsigned depth;
    uint64_t section;
} readers[SIM_TASKS_MAX];

struct grace {
    uint64_t section[SIM_TASKS_MAX]; /* 0: was outside */
};

struct call {
    struct list link;
    struct rcu_node *node;
    struct grace grace;
};
static struct list calls = LIST_INIT(calls);
static uint64_t called, completed;

void sim_rcu_reset(void)
{
    memset(readers, 0, sizeof(readers));
    called = completed = 0;
    while (!list_is_empty(&calls)) {
        mem_free(list_entry(list_pop_head(&calls), struct call, link));
    }
}

void rcu_thread_register(void)
{
    assert(!readers[sim_task_self()].registered);
    readers[sim_task_self()].registered = true;
}

void rcu_thread_unregister(void)
{
    assert(readers[sim_task_self()].registered);
    assert(readers[sim_task_self()].depth == 0);
    readers[sim_task_self()].registered = false;
}

bool rcu_thread_is_registered(void)
{
    return readers[sim_task_self()].registered;
}

void rcu_read_enter(void)
{
    assert(readers[sim_task_self()].registered);
    if (readers[sim_task_self()].depth++ == 0) {
        readers[sim_task_self()].section++;
    }
    sim_step("rcu-enter");
}

void rcu_read_leave(void)
{
    assert(readers[sim_task_self()].depth > 0);
    sim_step("rcu-leave");
    readers[sim_task_self()].depth--;
}

bool rcu_is_reading(void)
{
    return readers[sim_task_self()].depth > 0;
}

void rcu_thread_offline(void)
{
    assert(readers[sim_task_self()].depth == 0);
}

void rcu_thread_online(void)
{
    assert(readers[sim_task_self()].depth == 0);
}

static void grace_begin(struct grace *grace)
{
    for (unsigned i = 0; i < SIM_TASKS_MAX; i++) {
        grace->section[i] = readers[i].depth > 0 ? readers[i].section : 0;
    }
}

static bool grace_is_over(void *opaque)
{
    const struct grace *grace = opaque;

    for (unsigned i = 0; i < SIM_TASKS_MAX; i++) {
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

    assert(readers[sim_task_self()].depth == 0);
    grace_begin(&grace);
    sim_sleep(sim_latency());
    sim_wait(grace_is_over, &grace, UINT64_MAX, "rcu-synchronize");
}

static bool first_is_due(void *opaque)
{
    return !list_is_empty(&calls) &&
           grace_is_over(&list_first(&calls, struct call, link)->grace);
}

static void run_calls(void *opaque)
{
    for (;;) {
        struct call *call;

        sim_wait(first_is_due, NULL, UINT64_MAX, "rcu-call");
        sim_sleep(sim_latency());
        call = list_entry(list_pop_head(&calls), struct call, link);
        call->node->fn(call->node);
        mem_free(call);
        completed++;
    }
}

void rcu_call(struct rcu_node *node, void (*fn)(struct rcu_node *node))
{
    struct call *call = mem_new(struct call);

    assert(readers[sim_task_self()].registered);
    node->fn = fn;
    call->node = node;
    grace_begin(&call->grace);
    list_add_tail(&calls, &call->link);
    if (called++ == 0) {
        sim_task_spawn("rcu", run_calls, NULL);
    }
}

static bool are_complete(void *opaque)
{
    return completed >= *(const uint64_t *)opaque;
}

void rcu_barrier_wait(void)
{
    uint64_t wanted = called;

    assert(readers[sim_task_self()].depth == 0);
    sim_wait(are_complete, &wanted, UINT64_MAX, "rcu-barrier");
}

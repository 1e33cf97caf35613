/*
 * sched.c -- tasks, virtual time, the seeded choice of who goes on, and the trace.
 *
 * (S1) Exactly one task runs; it gives way only in sim_step() and sim_wait(). So between two calls
 *      of os/ a task is alone, and what it does there is part of its step.
 * (S2) A choice depends on the seed and on former choices only: tasks are numbered in order of
 *      start, and no address, hash order or real time enters.
 * (S3) Time moves only when no task can go on, to the nearest deadline. A task that keeps asking
 *      for the time is spinning; it is made to wait a little, or it would spin for ever.
 */
#include "sim/sim_int.h"
#include "base/mem.h"
#include "base/str.h"
#include "os/thread.h"
#include "os/time.h"
#include "sim/fiber.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    STACK_BYTES = 1 << 20,
    STEPS_MAX = 200 * 1000 * 1000,
    SPINS_MAX = 16,        /* (S3) questions for the time between two waits */
    SPIN_NS = 500,
    STEP_CHANCE = 4,       /* one call of os/ in so many gives way */
};
static const uint64_t TIME_BEGIN_NS = 1000000000000, EPOCH_NS = 1790000000000000000;

struct task {
    struct fiber *fiber;
    void (*fn)(void *opaque);
    void *opaque;
    char name[16];
    bool done, essential;
    bool is_program; /* faults meet the program only, not those beside it */
    unsigned spins;

    bool (*is_true)(void *opaque); /* waits for it; NULL: only for its deadline */
    void *is_true_opaque;
    uint64_t deadline; /* 0: can go on */
    bool was_true;     /* why it went on */
    const char *what;

    void *tls[OS_TLS_MAX_];
};

static struct task *tasks[SIM_TASKS_MAX];
static unsigned task_count, self;
static struct fiber *scheduler;
static uint64_t now_ns, random_state, trace_hash;
static unsigned steps;
static bool is_running, has_exited, prints_trace;
static int exit_status;

_Thread_local void *os_tls[OS_TLS_MAX_];

/* ---- chance and trace ---- */

uint64_t sim_random(void)
{
    uint64_t z = (random_state += 0x9e3779b97f4a7c15); /* splitmix64 */

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

uint64_t sim_below(uint64_t limit)
{
    return limit > 1 ? sim_random() % limit : 0;
}

uint64_t sim_latency(void)
{
    uint64_t kind = sim_below(100);

    if (kind < 70) {
        return 1000 + sim_below(100000);
    }
    return kind < 98 ? 100000 + sim_below(1000000) : 1000000 + sim_below(30000000);
}

static void fold(uint64_t value)
{
    for (unsigned i = 0; i < 8; i++) { /* FNV-1a */
        trace_hash = (trace_hash ^ (value >> (8 * i) & 0xff)) * 0x100000001b3;
    }
}

void sim_trace(const char *what, uint64_t value)
{
    for (const char *c = what; *c != '\0'; c++) {
        trace_hash = (trace_hash ^ (unsigned char)*c) * 0x100000001b3;
    }
    fold(value);
    if (unlikely(prints_trace)) {
        fprintf(stderr, "sim %llu %s: %s %llu\n", (unsigned long long)(now_ns - TIME_BEGIN_NS),
                tasks[self] ? tasks[self]->name : "-", what, (unsigned long long)value);
    }
}

uint64_t sim_trace_hash(void)
{
    return trace_hash;
}

unsigned sim_steps(void)
{
    return steps;
}

/* ---- faults ---- */

static struct sim_faults faults;
static uint64_t fault_calls;
static unsigned faults_injected;

void sim_set_faults(const struct sim_faults *to)
{
    faults = *to;
    fault_calls = 0;
}

unsigned sim_faults_injected(void)
{
    return faults_injected;
}

int sim_fault(const char *name, int errnum)
{
    bool fails;

    if ((faults.nth == 0 && faults.per_million == 0) || !tasks[self]->is_program ||
        (faults.only != NULL && !str_matches_glob(name, faults.only))) {
        return 0;
    }
    fails = ++fault_calls == faults.nth;
    if (faults.per_million != 0 && sim_below(1000000) < faults.per_million) {
        fails = true;
    }
    if (!fails) {
        return 0;
    }
    faults_injected++;
    sim_trace(name, (uint64_t)errnum);
    return -errnum;
}

/* ---- tasks ---- */

unsigned sim_task_self(void)
{
    return self;
}

bool sim_task_is_done(unsigned task)
{
    return tasks[task]->done;
}

static void switch_out(void)
{
    struct task *task = tasks[self];

    memcpy(task->tls, os_tls, sizeof(task->tls));
    fiber_switch(task->fiber, scheduler);
}

static void task_main(void *opaque)
{
    struct task *task = opaque;

    task->fn(task->opaque);
    task->done = true;
    for (;;) {
        switch_out();
    }
}

unsigned sim_task_spawn(const char *name, void (*fn)(void *opaque), void *opaque)
{
    struct task *task = mem_new(struct task);

    if (task_count == SIM_TASKS_MAX) {
        panic("sim: more than %d tasks", SIM_TASKS_MAX);
    }
    task->fn = fn;
    task->opaque = opaque;
    task->what = "start";
    task->is_program = task_count == 0 || tasks[self]->is_program;
    snprintf(task->name, sizeof(task->name), "%s", name);
    task->fiber = fiber_new(task_main, task, STACK_BYTES);
    tasks[task_count] = task;
    return task_count++;
}

void sim_task_start(const char *name, void (*fn)(void *opaque), void *opaque)
{
    struct task *task = tasks[sim_task_spawn(name, fn, opaque)];

    task->essential = true;
    task->is_program = task == tasks[0];
}

uint64_t sim_now(void)
{
    return now_ns;
}

static bool can_run(struct task *task)
{
    if (task->done) {
        return false;
    }
    task->was_true = task->is_true != NULL && task->is_true(task->is_true_opaque);
    return task->was_true || task->deadline <= now_ns;
}

bool sim_wait_until(bool (*is_true)(void *opaque), void *opaque, uint64_t deadline,
                    const char *what)
{
    struct task *task = tasks[self];

    task->is_true = is_true;
    task->is_true_opaque = opaque;
    task->deadline = deadline;
    task->what = what;
    task->spins = 0;
    switch_out();
    task->is_true = NULL;
    task->deadline = 0;
    return task->was_true;
}

bool sim_wait(bool (*is_true)(void *opaque), void *opaque, uint64_t timeout_ns, const char *what)
{
    uint64_t deadline = timeout_ns < UINT64_MAX - now_ns ? now_ns + timeout_ns : UINT64_MAX;

    return sim_wait_until(is_true, opaque, deadline, what);
}

void sim_sleep(uint64_t ns)
{
    sim_wait(NULL, NULL, ns, "sleep");
}

void sim_step(const char *what)
{
    if (is_running && sim_below(STEP_CHANCE) == 0) {
        sim_wait_until(NULL, NULL, 0, what);
    }
}

void sim_exit(int status)
{
    has_exited = true;
    exit_status = status;
    for (;;) {
        switch_out();
    }
}

/* ---- the run ---- */

static no_return void nobody_can_go_on(void)
{
    fprintf(stderr, "sim: nobody can go on\n");
    for (unsigned i = 0; i < task_count; i++) {
        if (!tasks[i]->done) {
            fprintf(stderr, "  task %u '%s' waits: %s\n", i, tasks[i]->name, tasks[i]->what);
        }
    }
    panic("sim: deadlock at seed-determined step %u", steps);
}

/* (S3) */
static void advance_time(void)
{
    uint64_t nearest = UINT64_MAX;

    for (unsigned i = 0; i < task_count; i++) {
        if (!tasks[i]->done) {
            nearest = min_of(nearest, tasks[i]->deadline);
        }
    }
    if (nearest == UINT64_MAX) {
        nobody_can_go_on();
    }
    now_ns = nearest;
    fold(now_ns);
}

static unsigned pick_task(void)
{
    unsigned runnable[SIM_TASKS_MAX], count = 0;

    for (;;) {
        for (unsigned i = 0; i < task_count; i++) {
            if (can_run(tasks[i])) {
                runnable[count++] = i;
            }
        }
        if (count > 0) {
            return runnable[sim_below(count)];
        }
        advance_time();
    }
}

static void run_task(unsigned number)
{
    struct task *task = tasks[number];

    self = number;
    sim_trace("run", number);
    memcpy(os_tls, task->tls, sizeof(task->tls));
    fiber_switch(scheduler, task->fiber);
}

static bool is_over(void)
{
    for (unsigned i = 0; i < task_count; i++) {
        if (tasks[i]->essential && !tasks[i]->done) {
            return false;
        }
    }
    return true;
}

static void begin(const struct sim_config *config)
{
    random_state = config->seed;
    trace_hash = 0xcbf29ce484222325;
    now_ns = TIME_BEGIN_NS;
    steps = 0;
    task_count = self = 0;
    has_exited = false;
    exit_status = 0;
    faults_injected = 0;
    prints_trace = getenv("SIM_TRACE") != NULL;
    sim_set_faults(&config->faults);
    sim_rcu_reset();
    sim_process_reset();
    is_running = true;
}

static void end(void)
{
    is_running = false;
    for (unsigned i = 0; i < task_count; i++) {
        fiber_free(tasks[i]->fiber);
        mem_free(tasks[i]);
        tasks[i] = NULL;
    }
    task_count = 0;
    memset(os_tls, 0, sizeof(os_tls));
    sim_fd_reset();
    sim_socket_reset();
    sim_file_reset();
    mem_free(scheduler);
}

int sim_run(const struct sim_config *config, void (*fn)(void *opaque), void *opaque)
{
    begin(config);
    scheduler = fiber_of_thread();
    sim_task_start("main", fn, opaque);
    while (!has_exited && !is_over()) {
        if (++steps == STEPS_MAX) {
            panic("sim: no end after %u steps", steps);
        }
        run_task(pick_task());
    }
    end();
    return exit_status;
}

/* ---- os/time.h ---- */

uint64_t os_now_monotonic_ns(void)
{
    if (is_running && ++tasks[self]->spins > SPINS_MAX) { /* (S3) */
        sim_wait(NULL, NULL, SPIN_NS, "spinning");
    }
    return now_ns;
}

uint64_t os_now_realtime_ns(void)
{
    return EPOCH_NS + now_ns;
}

uint64_t os_thread_cpu_ns(void)
{
    return now_ns - TIME_BEGIN_NS;
}

int os_process_cpu_ns(pid_t pid, uint64_t *ret_ns)
{
    *ret_ns = now_ns - TIME_BEGIN_NS;
    return 0;
}

/*
 * explore.c -- depth-first search over all schedules of a few actors.
 *
 * Each actor is a fiber that gives way only at a point, so a schedule is a list of decisions: which
 * actor goes on, which buffered store reaches memory, what explore_choose() gave.
 *
 * (E1) A run with the same decisions does the same: all state is made new before each, and nothing
 *      else may be random. A decision whose number of choices differs from last time aborts.
 * (E2) A point comes before its access. What an actor does between two points is one step.
 * (E3) Leaving an actor that could go on is a preemption; with a bound, no more than that many.
 *      Flushing a store is not one.
 * (E4) A schedule ends when nobody can go on: well, if every actor that must end has; else it is
 *       stuck.
 * (E5) A busy wait gives way until somebody else has got somewhere: a step counts when its actor is
 *      not merely turning in a busy wait itself. So waiting for each other is found as stuck.
 */
#include "explore.h"
#include "base/mem.h"
#include "sim/fiber.h"
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    STACK_BYTES = 256 << 10,
    STEPS_MAX = 20000,  /* a schedule with more is a livelock */
    BUFFERED_MAX = 16,  /* stores held back, of one actor */
    RESETS_MAX = 16,
    RETRY_POINTS = 3,   /* (E5): a busy wait's turn has at most that many points */
    NO_BOUND = 1 << 30,
};

struct buffered {
    void *to;
    uint64_t value;
    unsigned bytes; /* 8 or 2 */
    bool is_release;
};

struct actor {
    struct fiber *fiber;
    void (*fn)(void *opaque);
    void *opaque;
    bool is_daemon, done, permit;

    bool (*is_true)(void *opaque); /* waits for it; NULL: does not wait */
    void *is_true_opaque;
    const char *waits_for;

    bool relaxing;             /* (E5) */
    unsigned retry_points;     /* points since it was let out of explore_relax() */
    unsigned long relax_until; /* runs again when `progress` is past this */

    struct buffered buffer[BUFFERED_MAX];
    unsigned buffered;
    const char *at; /* the point it stands at */
};

static struct actor actors[EXPLORE_ACTORS_MAX];
static unsigned actor_count;
static int self = -1, last;
static struct fiber *top, *scheduler; /* the search; and what runs a schedule, on top's behalf */
static unsigned long progress, steps;
static unsigned preemptions, preemptions_max;

static struct {
    unsigned *picks, *limits;
    size_t length, position, capacity;
} trail;

static const struct explore_scenario *scenario;
static bool replaying, failed, broken;
static char failure[512];
static const char *program;
static void (*resets[RESETS_MAX])(void);
static unsigned reset_count;

/* ---- decisions ---- */

static void trail_grow(void)
{
    trail.capacity = max_of(2 * trail.capacity, (size_t)256);
    trail.picks = mem_realloc(trail.picks, trail.capacity * sizeof(*trail.picks));
    trail.limits = mem_realloc(trail.limits, trail.capacity * sizeof(*trail.limits));
}

/* The decision made here last time, or the first there is. */
static unsigned decide(unsigned limit)
{
    size_t i = trail.position;

    if (limit == 1) {
        return 0;
    }
    if (i == trail.capacity) {
        trail_grow();
    }
    if (i == trail.length) {
        trail.length++;
        trail.picks[i] = 0;
        trail.limits[i] = limit;
    } else if (trail.limits[i] == 0) {
        trail.limits[i] = limit; /* given on the command line */
    }
    if (trail.limits[i] != limit || trail.picks[i] >= limit) {
        broken = true;
        panic("explore: decision %zu has %u choices and had %u: the scenario is not repeatable", i,
              limit, trail.limits[i]);
    }
    trail.position++;
    return trail.picks[i];
}

static bool next_trail(void)
{
    size_t length = trail.length;

    while (length > 0 && trail.picks[length - 1] + 1 == trail.limits[length - 1]) {
        length--;
    }
    if (length > 0) {
        trail.picks[length - 1]++;
    }
    trail.length = length;
    return length > 0;
}

/* ---- the report ---- */

void explore_note(const char *format, ...)
{
    va_list args;

    if (replaying) {
        va_start(args, format);
        printf("    ");
        vprintf(format, args);
        putchar('\n');
        va_end(args);
    }
}

/* The actor that fails is left where it stands. */
static no_return void fail_now(void)
{
    failed = true;
    for (;;) {
        fiber_switch(self >= 0 ? actors[self].fiber : scheduler, top);
    }
}

void explore_fail(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(failure, sizeof(failure), format, args);
    va_end(args);
    fail_now();
}

/* panic() of the sources comes here (the linker's --wrap). */
no_return void __wrap_panic(const char *format, ...);
void __wrap_panic(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(failure, sizeof(failure), format, args);
    va_end(args);
    if (scenario == NULL || broken) {
        fprintf(stderr, "explore: %s\n", failure);
        abort();
    }
    fail_now();
}

/* assert() comes here instead of to the C library, so that its text becomes the report's. */
void __assert_fail(const char *text, const char *file, unsigned line, const char *function)
{
    explore_fail("%s:%u: %s: assertion '%s' failed", file, line, function, text);
}

static void print_trail(FILE *to)
{
    fprintf(to, "  replay: %s %s %u", program, scenario->name, preemptions_max);
    for (size_t i = 0; i < trail.position; i++) {
        fprintf(to, " %u", trail.picks[i]);
    }
    fputc('\n', to);
}

/* ---- store buffers ---- */

static void buffer_take_out(struct actor *actor, unsigned i)
{
    struct buffered entry = actor->buffer[i];

    actor->buffered--;
    memmove(&actor->buffer[i], &actor->buffer[i + 1],
            (actor->buffered - i) * sizeof(actor->buffer[0]));
    if (entry.bytes == sizeof(uint16_t)) {
        __atomic_store_n((uint16_t *)entry.to, (uint16_t)entry.value, __ATOMIC_RELAXED);
    } else {
        __atomic_store_n((uint64_t *)entry.to, entry.value, __ATOMIC_RELAXED);
    }
    progress++;
}

static void buffer_flush(struct actor *actor)
{
    while (actor->buffered > 0) {
        buffer_take_out(actor, 0);
    }
}

static void buffer_flush_place(struct actor *actor, const volatile void *place)
{
    for (unsigned i = 0; i < actor->buffered;) {
        if (actor->buffer[i].to == place) {
            buffer_take_out(actor, i);
        } else {
            i++;
        }
    }
}

/* Different places reach memory in any order, but a release only after all that is ahead of it. */
static bool buffer_may_go(const struct actor *actor, unsigned entry)
{
    for (unsigned i = 0; i < entry; i++) {
        if (actor->buffer[entry].is_release || actor->buffer[i].to == actor->buffer[entry].to) {
            return false;
        }
    }
    return true;
}

/* Entry @n of those that may go, over all actors. How many there are. */
static unsigned buffer_pick(unsigned n, struct actor **ret_actor, unsigned *ret_entry)
{
    unsigned count = 0;

    for (unsigned a = 0; a < actor_count; a++) {
        for (unsigned i = 0; i < actors[a].buffered; i++) {
            if (buffer_may_go(&actors[a], i) && count++ == n) {
                *ret_actor = &actors[a];
                *ret_entry = i;
            }
        }
    }
    return count;
}

static unsigned buffer_count(void)
{
    struct actor *actor;
    unsigned entry;

    return buffer_pick(UINT32_MAX, &actor, &entry);
}

static void buffer_flush_nth(unsigned n)
{
    struct actor *actor = NULL;
    unsigned entry = 0;

    buffer_pick(n, &actor, &entry);
    if (replaying) {
        printf("  a store of actor %d reaches memory: %p = %llu\n", (int)(actor - actors),
               actor->buffer[entry].to, (unsigned long long)actor->buffer[entry].value);
    }
    buffer_take_out(actor, entry);
}

/* ---- actors ---- */

static void give_way(void)
{
    struct actor *actor = &actors[self];

    fiber_switch(actor->fiber, scheduler);
}

static void actor_main(void *opaque)
{
    struct actor *actor = opaque;

    for (;;) { /* its stack serves the next schedule's actor of this number */
        actor->fn(actor->opaque);
        actor->done = true;
        actor->at = "end";
        progress++;
        fiber_switch(actor->fiber, scheduler);
    }
}

unsigned explore_spawn(void (*fn)(void *opaque), void *opaque, bool is_daemon)
{
    struct actor *actor = &actors[actor_count];
    struct fiber *fiber = actor->fiber;

    if (actor_count == EXPLORE_ACTORS_MAX) {
        panic("explore: more than %d actors", EXPLORE_ACTORS_MAX);
    }
    *actor = (struct actor){.fn = fn, .opaque = opaque, .is_daemon = is_daemon, .at = "start"};
    actor->fiber = fiber != NULL ? fiber : fiber_new(actor_main, actor, STACK_BYTES);
    return actor_count++;
}

bool explore_is_done(unsigned actor)
{
    return actors[actor].done;
}

int explore_self(void)
{
    return self;
}

static bool can_run(const struct actor *actor)
{
    if (actor->done || (actor->relaxing && progress <= actor->relax_until)) {
        return false;
    }
    return actor->is_true == NULL || actor->is_true(actor->is_true_opaque);
}

/* (E5) Has this step got anywhere? A step after a busy wait's turn is judged later. */
static void count_progress(struct actor *actor)
{
    if (actor->retry_points == 0) {
        progress++;
    } else if (++actor->retry_points > RETRY_POINTS) {
        actor->retry_points = 0;
        progress++;
    }
}

static void step_begins(const char *what, const volatile void *address)
{
    struct actor *actor = &actors[self];

    actor->at = what;
    if (++steps > STEPS_MAX) {
        explore_fail("livelock: more than %d steps", STEPS_MAX);
    }
    give_way();
    if (replaying) {
        printf("  actor %d: %s %p\n", self, what, (const void *)(uintptr_t)address);
    }
}

static bool is_more_than_relaxed(const char *what)
{
    return strcmp(what, "load") != 0 && strcmp(what, "store-relaxed") != 0;
}

void explore_point(const char *what, const volatile void *address)
{
    if (self < 0) {
        return;
    }
    count_progress(&actors[self]);
    step_begins(what, address);
    if (is_more_than_relaxed(what)) {
        buffer_flush(&actors[self]);
    } else {
        buffer_flush_place(&actors[self], address);
    }
}

void explore_step(const char *what)
{
    if (self >= 0) {
        count_progress(&actors[self]);
        step_begins(what, NULL);
    }
}

static void store_buffered(struct buffered entry)
{
    struct actor *actor;

    assert(self >= 0);
    actor = &actors[self];
    explore_step("store-buffered");
    if (actor->buffered == BUFFERED_MAX) {
        buffer_take_out(actor, 0); /* the oldest may always go */
    }
    actor->buffer[actor->buffered++] = entry;
}

#define DEFINE_STORE(name, type, is_release)                                                       \
    void name(type *to, type value)                                                                \
    {                                                                                              \
        if (self < 0) {                                                                            \
            *to = value;                                                                           \
        } else {                                                                                   \
            store_buffered((struct buffered){to, value, sizeof(*to), is_release});                 \
        }                                                                                          \
    }
DEFINE_STORE(explore_store_buffered, uint64_t, false)
DEFINE_STORE(explore_store_release_buffered, uint64_t, true)
DEFINE_STORE(explore_store16_buffered, uint16_t, false)
DEFINE_STORE(explore_store16_release_buffered, uint16_t, true)

uint64_t explore_load_buffered(const uint64_t *from)
{
    struct actor *actor;

    if (self >= 0) {
        actor = &actors[self];
        explore_step("load-buffered");
        for (unsigned i = actor->buffered; i > 0; i--) {
            if (actor->buffer[i - 1].to == from) {
                return actor->buffer[i - 1].value;
            }
        }
    }
    return __atomic_load_n(from, __ATOMIC_RELAXED);
}

void explore_heavy_fence(void)
{
    explore_step("heavy-fence");
    for (unsigned i = 0; i < actor_count; i++) {
        buffer_flush(&actors[i]);
    }
}

void explore_relax(void)
{
    struct actor *actor;

    if (self < 0) {
        explore_fail("a busy wait in setup or check");
    }
    actor = &actors[self];
    actor->relaxing = true;
    actor->relax_until = progress;
    step_begins("relax", NULL);
    actor->relaxing = false;
    actor->retry_points = 1;
}

void explore_wait(bool (*is_true)(void *opaque), void *opaque, const char *what)
{
    struct actor *actor;

    if (self < 0) {
        if (!is_true(opaque)) {
            explore_fail("setup or check would wait for %s", what);
        }
        return;
    }
    actor = &actors[self];
    actor->retry_points = 0;
    progress++;
    actor->is_true = is_true;
    actor->is_true_opaque = opaque;
    actor->waits_for = what;
    step_begins(what, opaque);
    actor->is_true = NULL;
}

static bool has_permit(void *opaque)
{
    return ((struct actor *)opaque)->permit;
}

void explore_park(void)
{
    struct actor *actor;

    explore_check(self >= 0);
    actor = &actors[self];
    explore_wait(has_permit, actor, "park");
    actor->permit = false;
}

void explore_unpark(unsigned actor)
{
    explore_step("unpark");
    actors[actor].permit = true;
}

unsigned explore_choose(unsigned count, const char *what)
{
    unsigned pick = decide(count);

    explore_note("%s: choice %u of %u", what, pick, count);
    return pick;
}

/* ---- one schedule ---- */

static void call_scenario_actor(void *opaque)
{
    scenario->actor((unsigned)(uintptr_t)opaque);
}

void explore_at_reset(void (*fn)(void))
{
    for (unsigned i = 0; i < reset_count; i++) {
        if (resets[i] == fn) {
            return;
        }
    }
    assert(reset_count < RESETS_MAX);
    resets[reset_count++] = fn;
}

static void begin(void)
{
    trail.position = 0;
    actor_count = preemptions = 0;
    progress = steps = 0;
    last = self = -1;
    failure[0] = '\0';
    for (unsigned i = 0; i < reset_count; i++) {
        resets[i]();
    }
    for (unsigned i = 0; i < scenario->actors; i++) {
        explore_spawn(call_scenario_actor, (void *)(uintptr_t)i, false);
    }
    if (scenario->setup != NULL) {
        scenario->setup();
    }
}

static void describe_stuck(void)
{
    size_t length = (size_t)snprintf(failure, sizeof(failure), "stuck:");

    for (unsigned i = 0; i < actor_count; i++) {
        const struct actor *actor = &actors[i];

        if (!actor->done && !actor->is_daemon && length < sizeof(failure)) {
            length += (size_t)snprintf(failure + length, sizeof(failure) - length,
                                       " actor %u at '%s';", i,
                                       actor->is_true ? actor->waits_for : actor->at);
        }
    }
    fail_now();
}

static bool all_done(void)
{
    for (unsigned i = 0; i < actor_count; i++) {
        if (!actors[i].done && !actors[i].is_daemon) {
            return false;
        }
    }
    return true;
}

static void run_actor(int number)
{
    preemptions += last >= 0 && number != last && can_run(&actors[last]);
    last = self = number;
    fiber_switch(scheduler, actors[number].fiber);
    self = -1;
}

/* One decision; false: nobody can do anything. */
static bool take_step(void)
{
    int runnable[EXPLORE_ACTORS_MAX];
    unsigned count = 0, flushes, pick;
    bool last_can_run = last >= 0 && can_run(&actors[last]);

    if (last_can_run) {
        runnable[count++] = last; /* the first choice: to go on */
    }
    for (unsigned i = 0; i < actor_count; i++) {
        if ((int)i != last && !(last_can_run && preemptions >= preemptions_max) &&
            can_run(&actors[i])) {
            runnable[count++] = (int)i;
        }
    }
    flushes = buffer_count();
    if (count + flushes == 0) {
        return false;
    }
    pick = decide(count + flushes);
    if (pick >= count) {
        buffer_flush_nth(pick - count);
    } else {
        run_actor(runnable[pick]);
    }
    return true;
}

static void forget_fibers(void)
{
    for (unsigned i = 0; i < EXPLORE_ACTORS_MAX; i++) {
        fiber_free(actors[i].fiber);
        actors[i].fiber = NULL;
    }
}

/* A daemon stands in its loop when the schedule ends well: its fiber cannot serve another. */
static void forget_daemons(void)
{
    for (unsigned i = 0; i < actor_count; i++) {
        if (!actors[i].done) {
            fiber_free(actors[i].fiber);
            actors[i].fiber = NULL;
        }
    }
}

static void one_schedule(void)
{
    begin();
    while (take_step()) {
    }
    if (!all_done()) {
        describe_stuck();
    }
    forget_daemons();
    if (scenario->check != NULL) {
        scenario->check();
    }
}

static void scheduler_main(void *opaque)
{
    for (;;) {
        one_schedule();
        fiber_switch(scheduler, top);
    }
}

/* True: it went well. */
static bool run_schedule(void)
{
    if (scheduler == NULL) {
        scheduler = fiber_new(scheduler_main, NULL, STACK_BYTES);
    }
    failed = false;
    fiber_switch(top, scheduler);
    if (!failed) {
        return true;
    }
    self = -1; /* the fibers stand where they stood: new ones for the next */
    forget_fibers();
    fiber_free(scheduler);
    scheduler = NULL;
    return false;
}

/* ---- the search ---- */

static unsigned long limit_of(const struct explore_scenario *of)
{
    const char *factor = getenv("EXPLORE_FACTOR");
    unsigned long limit = of->schedules ? of->schedules : 100000;

    return factor != NULL ? limit * strtoul(factor, NULL, 10) : limit;
}

enum outcome { ALL_WELL, CUT, FAILED };

static enum outcome search(unsigned bound, unsigned long *ret_schedules)
{
    unsigned long limit = limit_of(scenario);

    trail.length = 0;
    preemptions_max = bound;
    *ret_schedules = 0;
    do {
        if (*ret_schedules == limit) {
            return CUT;
        }
        ++*ret_schedules;
        if (!run_schedule()) {
            return FAILED;
        }
        trail.length = trail.position; /* what was decided beyond belongs to a former schedule */
    } while (next_trail());
    return ALL_WELL;
}

static bool fails_as_it_must(unsigned bound, unsigned long schedules)
{
    if (scenario->must_fail != NULL && strstr(failure, scenario->must_fail) != NULL) {
        printf("%s: planted bug found with %u preemptions, schedule %lu (%s)\n", scenario->name,
               bound, schedules, failure);
        return true;
    }
    printf("%s: FAILED: %s\n", scenario->name, failure);
    print_trail(stdout);
    return false;
}

/* Bounds 0, 1, … then none. */
static bool explore(void)
{
    unsigned bound_max = scenario->bound ? scenario->bound : 3, bound = 0;
    unsigned long schedules = 0, total = 0;
    enum outcome outcome = ALL_WELL;
    int complete = -1; /* the highest bound all of whose schedules were run */

    for (; bound <= bound_max + 1 && outcome != FAILED; bound++) {
        outcome = search(bound > bound_max ? NO_BOUND : bound, &schedules);
        total += schedules;
        complete = outcome == ALL_WELL ? (int)bound : complete;
    }
    if (outcome == FAILED) {
        return fails_as_it_must(bound - 1, total);
    }
    if (scenario->must_fail != NULL) {
        printf("%s: FAILED: the planted bug '%s' was not found in %lu schedules\n", scenario->name,
               scenario->must_fail, total);
        return false;
    }
    if (outcome == CUT && scenario->must_finish) {
        printf("%s: FAILED: not finished after %lu schedules\n", scenario->name, schedules);
        return false;
    }
    if (outcome != CUT) {
        printf("%s: %lu schedules, all there are\n", scenario->name, total);
    } else if (complete >= 0) {
        printf("%s: %lu schedules, all with up to %d preemptions, then cut off\n", scenario->name,
               total, complete);
    } else {
        printf("%s: %lu schedules, cut off within those without preemption\n", scenario->name,
               total);
    }
    return true;
}

static int replay(char **decisions, int count)
{
    replaying = true;
    preemptions_max = (unsigned)strtoul(decisions[0], NULL, 10);
    for (int i = 1; i < count; i++) {
        if (trail.length == trail.capacity) {
            trail_grow();
        }
        trail.picks[trail.length] = (unsigned)strtoul(decisions[i], NULL, 10);
        trail.limits[trail.length++] = 0;
    }
    if (!run_schedule()) {
        printf("%s: FAILED: %s\n", scenario->name, failure);
        return 1;
    }
    printf("%s: went well\n", scenario->name);
    return 0;
}

/* A bad access or an overrun stack: say by which schedule, and die. */
static void on_crash(int signal_number)
{
    if (scenario != NULL) {
        printf("%s: FAILED: signal %d in actor %d\n", scenario->name, signal_number, self);
        print_trail(stdout);
    }
    fflush(stdout);
    _exit(1);
}

static void catch_crashes(void)
{
    static char stack[64 << 10];
    struct sigaction action = {.sa_handler = on_crash, .sa_flags = SA_ONSTACK};

    sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof(stack)}, NULL);
    for (const int *s = (const int[]){SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, 0}; *s != 0; s++) {
        sigaction(*s, &action, NULL);
    }
}

int explore_main(int argc, char **argv, const struct explore_scenario *scenarios, size_t count)
{
    unsigned bad = 0, ran = 0;

    program = argv[0];
    top = fiber_of_thread();
    catch_crashes();
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (size_t i = 0; i < count; i++) {
        if (argc > 1 && strcmp(argv[1], scenarios[i].name) != 0) {
            continue;
        }
        scenario = &scenarios[i];
        if (argc > 2) {
            return replay(argv + 2, argc - 2);
        }
        bad += !explore();
        ran++;
    }
    printf("%u passed, %u failed, 0 skipped\n", ran - bad, bad);
    return bad != 0 || ran == 0;
}

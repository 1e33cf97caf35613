/*
 * dump.c -- what every loop is doing, for whoever looks at a hang or a crash.
 *
 * (X1) The dumper takes no lock and stops nobody. It reads what its owner writes meanwhile:
 *      counters and the ring of recent events by relaxed loads, so a line may be torn from its
 *      neighbour, never in itself. Lists are not walked, except that of coroutines where the caller
 *      says that the loops stand still.
 * (X2) Names in the ring are static text, so an event outlives what it tells of.
 */
#include "loop/engine_int.h"
#include "loop/dump.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

static const char *const event_names[LOOP_EVENT_MAX_] = {
    [LOOP_EVENT_NONE] = "none",     [LOOP_EVENT_BH] = "bh",       [LOOP_EVENT_CO] = "co",
    [LOOP_EVENT_WATCH] = "watch",   [LOOP_EVENT_TIMER] = "timer", [LOOP_EVENT_IO] = "io",
    [LOOP_EVENT_SLEEP] = "sleep",   [LOOP_EVENT_WOKEN] = "woken",
};

struct out {
    ANY_SLOT loop_dump_fn *line;
    void *opaque;
};

ANY_THREAD printf_like(2, 3)
static void say(const struct out *out, const char *format, ...)
{
    char text[200];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    out->line(text, out->opaque);
}

ANY_THREAD
static void dump_state(const struct loop *loop, const struct out *out)
{
    struct loop_stats stats;

    loop_get_stats(loop, &stats);
    say(out, "loop %u '%s' (%s): notify %u notified %u, bhs %s, ready %s, living bhs %u",
        loop->index, loop->name, loop->engine_text, at_load(&loop->notifier.notify),
        at_load(&loop->notifier.notified), at_load(&loop->bhs.incoming) ? "incoming" : "none",
        at_load(&loop->ready.incoming) ? "incoming" : "none", at_load(&loop->bhs.living));
    say(out, "  turns %" PRIu64 " bhs %" PRIu64 " coroutines %" PRIu64 " watches %" PRIu64
             " timers %" PRIu64 " transfers %" PRIu64 " calls %" PRIu64,
        stats.iterations, stats.bhs_run, stats.coroutines_run, stats.watches_run, stats.timers_run,
        stats.ios_run, stats.system_calls);
}

ANY_THREAD
static void dump_events(const struct loop *loop, const struct out *out)
{
    uint32_t end = at_load(&loop->recent.count);
    uint32_t count = min_of(end, (uint32_t)LOOP_RECENT_EVENTS);

    for (uint32_t n = end - count; n != end; n++) {
        const struct loop_event *event = &loop->recent.events[n % LOOP_RECENT_EVENTS];
        const char *name = at_load_relaxed(&event->name); /* (X1) */
        uint32_t kind = at_load_relaxed(&event->kind);    /* (X1) */

        say(out, "  %" PRIu32 ": %s %s %" PRId64, n,
            kind < LOOP_EVENT_MAX_ ? event_names[kind] : "?", name ? name : "",
            at_load_relaxed(&event->number)); /* (X1) */
    }
}

ANY_THREAD
static void say_co(const char *name, const char *state, const char *waker, void *opaque)
{
    say(opaque, "  coroutine '%s' %s, woken last by %s", name, state, waker);
}

void loop_dump(unsigned flags, loop_dump_fn *line, void *opaque)
{
    struct out out = {line, opaque};

    for (unsigned i = 0; i < LOOPS_MAX; i++) {
        struct loop *loop = registry_at(i);

        if (loop == NULL) {
            continue;
        }
        dump_state(loop, &out);
        if (flags & LOOP_DUMP_STANDING_STILL) {
            co_sched_each(&loop->sched, say_co, &out);
        }
        dump_events(loop, &out);
    }
}

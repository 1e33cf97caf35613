/* runtime_glib.c -- the same work on GLib's main loop. */
#include "runtime.h"
#include <glib.h>
#include <stdlib.h>

enum { TIMERS_ARMED = 100000, TIMERS_FIRED = 1000 };

static uint64_t runs;

/* A source of our own that is made ready again: cheaper than g_idle_add() each time. */
static gboolean dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
    runs++;
    g_source_set_ready_time(source, 0);
    return G_SOURCE_CONTINUE;
}

static void run_source(double seconds)
{
    GSourceFuncs funcs = {.dispatch = dispatch};
    GMainContext *context = g_main_context_new();
    GSource *source = g_source_new(&funcs, sizeof(GSource));
    struct bench_clock clock;

    g_source_set_ready_time(source, 0);
    g_source_attach(source, context);
    bench_clock_start(&clock, seconds);
    while (!bench_clock_is_over(&clock)) {
        g_main_context_iteration(context, TRUE);
    }
    bench_report("ns", bench_clock_cpu_ns_each(&clock, runs));
}

static gboolean on_timer(gpointer data)
{
    runs++;
    return G_SOURCE_REMOVE;
}

static void arm(GMainContext *context, guint after_ms)
{
    GSource *source = g_timeout_source_new(after_ms);

    g_source_set_callback(source, on_timer, NULL, NULL);
    g_source_attach(source, context);
    g_source_unref(source);
}

static void run_timer(double seconds)
{
    GMainContext *context = g_main_context_new();
    struct bench_clock clock;

    for (unsigned i = 0; i < TIMERS_ARMED; i++) {
        arm(context, ((guint)rand() % 3600 + 3600) * 1000);
    }
    bench_clock_start(&clock, seconds);
    do {
        for (unsigned i = 0; i < TIMERS_FIRED; i++) {
            arm(context, 0);
        }
        while (g_main_context_iteration(context, FALSE)) {
        }
    } while (bench_now_ns() < clock.end_ns);
    bench_report("ns", bench_clock_cpu_ns_each(&clock, runs));
}

const struct bench_case bench_glib[] = {
    {"glib.source", run_source}, {"glib.timer", run_timer}, {NULL, NULL},
};

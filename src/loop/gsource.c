/*
 * gsource.c -- a GSource that is a loop.
 *
 * GLib calls prepare before each wait, check after it, dispatch if either said yes. A prepare whose
 * dispatch never comes is superseded by the next one.
 */
#include "loop/gsource.h"

struct loop_source {
    GSource source;
    struct loop *loop;
    gpointer tag;
};

static struct loop_source *source_of(GSource *source)
{
    return (struct loop_source *)(void *)source;
}

/* The deadline goes in as the source's ready time, which has microseconds; @timeout_ms has not. */
ANY_THREAD
static gboolean on_prepare(GSource *source, gint *timeout_ms)
{
    struct loop *loop = source_of(source)->loop;
    uint64_t deadline_ns;

    loop_assert_home(loop);
    deadline_ns = loop_host_prepare(loop);
    *timeout_ms = -1;
    if (deadline_ns == 0) {
        return TRUE;
    }
    g_source_set_ready_time(source, deadline_ns == UINT64_MAX ? -1
                                                              : (gint64)(deadline_ns / 1000 + 1));
    return FALSE;
}

ANY_THREAD
static gboolean on_check(GSource *source)
{
    return g_source_query_unix_fd(source, source_of(source)->tag) != 0;
}

ANY_THREAD
static gboolean on_dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
    struct loop *loop = source_of(source)->loop;

    loop_assert_home(loop);
    loop_host_run(loop);
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs source_funcs = {
    .prepare = on_prepare,
    .check = on_check,
    .dispatch = on_dispatch,
};

GSource *loop_gsource_new(struct loop *loop)
{
    GSource *source = g_source_new(&source_funcs, sizeof(struct loop_source));

    source_of(source)->loop = loop;
    source_of(source)->tag = g_source_add_unix_fd(source, loop_host_fd(loop), G_IO_IN);
    g_source_set_name(source, loop_name(loop));
    return source;
}

/*
 * event.h -- events: what a lower layer tells whoever listens (the control sockets).
 *
 * Declared once, with their members, beside the code that emits them; qmp/ installs the sink, so
 * nobody below includes it. Called on the main loop only; labelled any because start-up uses it
 * before a loop exists.
 */
#pragma once
#include "base/opt.h"
#include "base/ctx.h"

CTX_ANY_BEGIN

struct event_def {
    const char *name; /* "DEVICE_DELETED" */
    const struct opt_table *members;
    const char *since;
    const char *help;
};

typedef void event_sink(const struct event_def *event, json_t *data, void *opaque);

/* Takes over the reference to @data (NULL: no data). */
void event_emit(const struct event_def *event, json_t *data);
void event_set_sink(event_sink *sink, void *opaque); /* NULL: events go nowhere */

CTX_ANY_END

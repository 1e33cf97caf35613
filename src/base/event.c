#include "base/event.h"

ANY_SLOT
static event_sink *current_sink;
static void *current_opaque;

void event_set_sink(event_sink *sink, void *opaque)
{
    current_sink = sink;
    current_opaque = opaque;
}

void event_emit(const struct event_def *event, json_t *data)
{
    if (current_sink != NULL) {
        current_sink(event, data, current_opaque);
    }
    json_decref(data);
}

/* gsource.h -- a loop as a source of a GLib main loop. In a library of its own. */
#pragma once
#include <glib.h>
#include "loop/loop.h"

/* Attach it to a GMainContext that the loop's thread runs; then nobody calls loop_run(). Destroy it
 * before loop_free(). */
HOME_LOOP
GSource *loop_gsource_new(struct loop *loop);

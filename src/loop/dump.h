/*
 * dump.h -- every loop's state and its recent events, as lines of text. For a watchdog, a crash
 * handler and a query: takes no lock, allocates nothing, may be called while the loops run.
 */
#pragma once
#include "base/ctx.h"
#include "loop/loop.h"

typedef void loop_dump_fn(const char *line, void *opaque); /* label its definition ANY_THREAD */

/* The loops stand still (a hang, a crash): list their coroutines too. */
enum loop_dump_flags { LOOP_DUMP_STANDING_STILL = 1 };

ANY_THREAD
void loop_dump(unsigned flags, NOTE_("ctx:any") loop_dump_fn *line, void *opaque);

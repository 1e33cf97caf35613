/*
 * explore_os.h -- what a scenario may ask of the twins beyond the headers they stand for.
 *
 * twin_os.c: threads (each an actor), their storage, mutex and condition variable, eventfds,
 * stacks, a clock that stands still. twin_rcu.c: read sections per actor; a grace period waits for
 * those that began before it; callbacks run on an actor of their own. Every call is a switch point.
 */
#pragma once
#include "base/ctx.h"
#include <stdint.h>

CTX_ANY_BEGIN
void explore_eventfd_wait(int fd); /* until it is signalled; does not clear it */
void explore_clock_advance(uint64_t ns);
unsigned explore_eventfd_writes(int fd); /* signals so far */
CTX_ANY_END

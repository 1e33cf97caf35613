/*
 * explore.h -- run a small scenario over the real sources under every schedule. README.md has a
 * specimen and the rules.
 */
#pragma once
#include "base/ctx.h"
#include "base/macros.h"
#include "explore_point.h"

CTX_ANY_BEGIN

enum { EXPLORE_ACTORS_MAX = 8 };

struct explore_scenario {
    const char *name;
    unsigned actors;          /* run actor(0) … actor(actors - 1) */
    void (*actor)(unsigned i);
    void (*setup)(void);      /* before each schedule: everything as new. Optional */
    void (*check)(void);      /* after each, when all actors have ended. Optional */

    /* Set for a variant with a bug planted: the explorer must find it, and say this ("stuck",
     * "livelock", or a part of the assertion's or explore_fail()'s text). */
    const char *must_fail;

    unsigned bound;           /* highest number of preemptions tried before "unbounded"; 0: 3 */
    unsigned long schedules;  /* most schedules for each bound; 0: 100000 (times EXPLORE_FACTOR) */
    bool must_finish;         /* fail when the unbounded search had to stop at `schedules` */
};

/* For main(): runs them all; 0 when each did what it should. `PROGRAM NAME DECISION…` replays one
 * schedule and tells every step. EXPLORE_FACTOR=n in the environment searches n times further. */
int explore_main(int argc, char **argv, const struct explore_scenario *scenarios, size_t count);

/* ---- inside actors ---- */

/* Which actor runs; -1 in setup and check. */
int explore_self(void);

/* Wait until @is_true. It is asked between any two steps of the others and must only read. If it
 * never becomes true the schedule is "stuck". @what: for the report. */
void explore_wait(bool (*is_true)(void *opaque), void *opaque, const char *what);

/* A permit each: park takes it, waiting if there is none; unpark gives it (giving twice is
 * once). */
void explore_park(void);
void explore_unpark(unsigned actor);

/* 0 … @count - 1, each tried. */
unsigned explore_choose(unsigned count, const char *what);

/* A switch point of the scenario's own: "somebody else might run here". */
void explore_step(const char *what);

/* One more actor, also from setup. A daemon need not end: it is done when it waits. Returns its
 * number. */
unsigned explore_spawn(void (*fn)(void *opaque), void *opaque, bool is_daemon);
bool explore_is_done(unsigned actor);

/* This schedule is wrong. Like a failed assert(), which is caught too. */
no_return printf_like(1, 2) void explore_fail(const char *format, ...);
#define explore_check(condition)                                                                   \
    ((condition) ? (void)0 : explore_fail("%s:%d: %s", __FILE__, __LINE__, #condition))

/* Said when a schedule is replayed. */
printf_like(1, 2) void explore_note(const char *format, ...);

/* Called by the twins: @fn runs before each schedule, to make their state new. */
void explore_at_reset(void (*fn)(void));

CTX_ANY_END

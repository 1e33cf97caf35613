/*
 * scenario_co.c -- co/wait.c and co/lock.c: exactly one party ends a wait, no wake-up is lost or
 * given twice, a mutex excludes and is handed on in order.
 */
#include "explore.h"
#include "explore_home.h"
#include "co/lock.h"
#include "sync/atomic.h"
#include <string.h>

static struct explore_home homes[2];
static unsigned ended, claims;
static struct co_wait *the_wait;

static void setup(void)
{
    explore_home_init(&homes[0]);
    explore_home_init(&homes[1]);
    ended = claims = 0;
    the_wait = NULL;
}

static bool all_ended(void *opaque)
{
    return ended == (unsigned)(uintptr_t)opaque;
}

/* ---- one waits, two try to end it ---- */

/* In memory that outlives the waiter, since the loser asks too. */
static struct co_wait lasting;

CO_FN
static void waiter(void *opaque)
{
    int64_t result;

    co_wait_init(&lasting);
    the_wait = &lasting;
    explore_step("the wait is known");
    result = co_wait_block(&lasting);
    explore_check(result == 1 || result == 2);
    explore_check(claims == 1);
    ended++;
}

static bool wait_is_known(void *opaque)
{
    return the_wait != NULL;
}

static void two_end_a_wait(unsigned i)
{
    if (i == 0) {
        explore_home_spawn(&homes[0], waiter, NULL, "waiter");
        explore_home_run(&homes[0], all_ended, (void *)1);
        return;
    }
    explore_wait(wait_is_known, NULL, "wait-is-known");
    if (co_wait_claim(the_wait)) {
        explore_check(claims++ == 0);
        co_wait_finish(the_wait, i);
    }
}

static void two_check(void)
{
    explore_check(claims == 1);
    explore_check(ended == 1);
}

/* ---- a mutex and two homes ---- */

static struct co_mutex mutex;
static unsigned inside;

static void mutex_setup(void)
{
    setup();
    co_mutex_init(&mutex);
    inside = 0;
}

CO_FN
static void locker(void *opaque)
{
    co_mutex_lock(&mutex);
    explore_check(inside++ == 0);
    explore_step("inside");
    inside--;
    co_mutex_unlock(&mutex);
    ended++;
}

static void lock_from_two_homes(unsigned i)
{
    explore_home_spawn(&homes[i], locker, NULL, "locker");
    explore_home_run(&homes[i], all_ended, (void *)2);
}

/* Three lockers, two of them in one home. */
static void lock_from_three(unsigned i)
{
    explore_home_spawn(&homes[i], locker, NULL, "locker");
    if (i == 1) {
        explore_home_spawn(&homes[i], locker, NULL, "second");
    }
    explore_home_run(&homes[i], all_ended, (void *)3);
}

static void mutex_check(void)
{
    explore_check(mutex.holder == NULL && list_is_empty(&mutex.waiters) && mutex.guard == 0);
}

/* ---- a coroutine that moves, woken in its new home ---- */

CO_FN
static void move_and_wait(void *opaque)
{
    struct co_wait wait;

    co_move(&homes[1].sched);
    explore_check(explore_self() == 1);
    co_wait_init(&wait);
    the_wait = &wait;
    co_wait_block(&wait);
    explore_check(explore_self() == 1);
    co_move(&homes[0].sched);
    explore_check(explore_self() == 0);
    ended++;
}

static void moving(unsigned i)
{
    if (i == 0) {
        explore_home_spawn(&homes[0], move_and_wait, NULL, "mover");
    }
    if (i == 2) {
        explore_wait(wait_is_known, NULL, "wait-is-known");
        co_wait_complete(the_wait, 0);
        return;
    }
    explore_home_run(&homes[i], all_ended, (void *)1);
}

int main(int argc, char **argv)
{
    static const struct explore_scenario scenarios[] = {
        {"wait-two-parties", 3, two_end_a_wait, setup, two_check},
        {"mutex-two-homes", 2, lock_from_two_homes, mutex_setup, mutex_check},
        {"mutex-three-lockers", 2, lock_from_three, mutex_setup, mutex_check},
        {"move-and-wake", 3, moving, setup},
    };
    return explore_main(argc, argv, scenarios, countof(scenarios));
}

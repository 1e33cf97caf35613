#include "explore_home.h"
#include "explore.h"
#include <string.h>

/* The list is not what is explored: one step. */
ANY_THREAD
static void on_ready(struct co_sched *sched, struct co *co)
{
    struct explore_home *home = container_of(sched, struct explore_home, sched);

    explore_step("co-ready");
    *co_link(co) = NULL;
    *home->ready_end = co;
    home->ready_end = co_link(co);
}

void explore_home_init(struct explore_home *home)
{
    memset(home, 0, sizeof(*home));
    co_sched_init(&home->sched, on_ready);
    home->ready_end = &home->ready;
}

void explore_home_spawn(struct explore_home *home, co_fn *fn, void *opaque, const char *name)
{
    co_wake(co_new(fn, opaque, &home->sched, name));
}

struct over {
    struct explore_home *home;
    bool (*is_over)(void *opaque);
    void *opaque;
};

static bool has_news(void *opaque)
{
    struct over *over = opaque;

    return over->home->ready != NULL || over->is_over(over->opaque);
}

TSA_TRUST
static void run_first(struct explore_home *home)
{
    struct co *co = home->ready;

    home->ready = *co_link(co);
    if (home->ready == NULL) {
        home->ready_end = &home->ready;
    }
    co_resume(co);
}

void explore_home_run(struct explore_home *home, bool (*is_over)(void *opaque), void *opaque)
{
    struct over over = {home, is_over, opaque};

    for (;;) {
        explore_wait(has_news, &over, "home");
        if (home->ready == NULL) {
            break;
        }
        run_first(home);
    }
    co_pool_release();
}

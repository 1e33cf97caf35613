/*
 * scenario_self.c -- the explorer itself: protocols with a known bug, which it must find, beside
 * their repaired twins, which it must pass.
 */
#include "explore.h"
#include "explore_os.h"
#include "os/file.h"
#include "os/thread.h"
#include "sync/asym.h"
#include "sync/rcu.h"

/* ---- a lock that looks before it takes ---- */

static uint32_t lock;
static int inside, entries;

static void lock_setup(void)
{
    lock = 0;
    inside = entries = 0;
}

static void critical(void)
{
    explore_check(inside == 0);
    inside++;
    explore_step("inside");
    inside--;
    entries++;
}

static void lock_broken(unsigned i)
{
    while (at_load(&lock) != 0) {
        at_relax();
    }
    at_store(&lock, 1);
    critical();
    at_store(&lock, 0);
}

static void lock_repaired(unsigned i)
{
    while (at_xchg(&lock, 1) != 0) {
        at_relax();
    }
    critical();
    at_store_release(&lock, 0);
}

static void lock_check(void)
{
    explore_check(entries == 3);
}

static void lock_forgotten(unsigned i)
{
    while (at_xchg(&lock, 1) != 0) {
        at_relax();
    }
}

/* ---- a sleeper that announces itself too late ---- */

static uint32_t work, sleeping;
static int event;

static void sleep_setup(void)
{
    work = sleeping = 0;
    event = os_eventfd();
}

static void publisher(void)
{
    at_store(&work, 1);
    if (at_load(&sleeping)) {
        os_eventfd_signal(event);
    }
}

static void sleep_broken(unsigned i)
{
    if (i == 1) {
        publisher();
    } else if (!at_load(&work)) {
        at_store(&sleeping, 1); /* and does not look again */
        explore_eventfd_wait(event);
    }
}

static void sleep_repaired(unsigned i)
{
    if (i == 1) {
        publisher();
        return;
    }
    at_store(&sleeping, 1);
    if (!at_load(&work)) {
        explore_eventfd_wait(event);
    }
}

/* ---- store buffering: each stores, then loads what the other stores ---- */

static uint64_t flags[2];
static uint64_t seen[2];

static void fence_setup(void)
{
    flags[0] = flags[1] = seen[0] = seen[1] = 0;
}

static void fence_missing(unsigned i)
{
    at_store_buffered(&flags[i], 1);
    seen[i] = at_load_buffered(&flags[1 - i]);
}

static void fence_light_only(unsigned i)
{
    at_store_buffered(&flags[i], 1);
    asym_light();
    seen[i] = at_load_buffered(&flags[1 - i]);
}

static void fence_pair(unsigned i)
{
    at_store_buffered(&flags[i], 1);
    if (i == 0) {
        asym_light();
    } else {
        asym_heavy();
    }
    seen[i] = at_load_buffered(&flags[1 - i]);
}

static void fence_check(void)
{
    explore_check(seen[0] || seen[1]);
}

/* ---- message passing: data, then a flag that says it is there ---- */

static void pass_relaxed(unsigned i)
{
    if (i == 0) {
        at_store_buffered(&flags[0], 1);
        at_store_buffered(&flags[1], 1);
    } else if (at_load_buffered(&flags[1])) {
        explore_check(at_load_buffered(&flags[0]) == 1);
    }
}

static void pass_released(unsigned i)
{
    if (i == 0) {
        at_store_buffered(&flags[0], 1);
        at_store_release_buffered(&flags[1], 1);
    } else if (at_load_acquire_buffered(&flags[1])) {
        explore_check(at_load_buffered(&flags[0]) == 1);
    }
}

/* ---- memory freed under a reader ---- */

static struct object {
    struct rcu_node rcu;
    bool is_freed;
} objects[2];
static struct object *current;

static void rcu_setup(void)
{
    objects[0].is_freed = objects[1].is_freed = false;
    current = &objects[0];
}

static void free_object(struct rcu_node *node)
{
    container_of(node, struct object, rcu)->is_freed = true;
}

static void read_twice(void)
{
    rcu_thread_register();
    for (int n = 0; n < 2; n++) {
        RCU_READ_SCOPE();
        struct object *object = rcu_get(&current);

        explore_step("reading");
        explore_check(!object->is_freed);
    }
    rcu_thread_unregister();
}

static void rcu_broken(unsigned i)
{
    if (i == 1) {
        read_twice();
        return;
    }
    rcu_publish(&current, &objects[1]);
    explore_step("free at once");
    free_object(&objects[0].rcu);
}

static void rcu_repaired(unsigned i)
{
    if (i == 1) {
        read_twice();
        return;
    }
    rcu_thread_register();
    rcu_publish(&current, &objects[1]);
    rcu_call(&objects[0].rcu, free_object);
    rcu_barrier_wait();
    explore_check(objects[0].is_freed);
    rcu_thread_unregister();
}

/* ---- a condition waited for without asking again ---- */

static struct os_mutex mutex;
static struct os_cond cond;
static int items;

static void cond_setup(void)
{
    mutex = (struct os_mutex)OS_MUTEX_INIT;
    cond = (struct os_cond)OS_COND_INIT;
    items = 0;
}

static void give_one(void)
{
    os_mutex_lock(&mutex);
    items++;
    os_cond_signal(&cond);
    os_mutex_unlock(&mutex);
}

static void cond_broken(unsigned i)
{
    if (i == 2) {
        give_one();
        give_one();
        return;
    }
    os_mutex_lock(&mutex);
    if (items == 0) {
        os_cond_wait(&cond, &mutex);
    }
    explore_check(items > 0);
    items--;
    os_mutex_unlock(&mutex);
}

static void cond_repaired(unsigned i)
{
    if (i == 2) {
        give_one();
        give_one();
        return;
    }
    os_mutex_lock(&mutex);
    while (items == 0) {
        os_cond_wait(&cond, &mutex);
    }
    items--;
    os_mutex_unlock(&mutex);
}

/* ---- a counter in steps; and choices ---- */

static int counter;

static void counter_setup(void)
{
    counter = 0;
}

static void counter_broken(unsigned i)
{
    int value = at_load(&counter);

    at_store(&counter, value + 1);
}

static void counter_check(void)
{
    explore_check(counter == 2);
}

static void choices(unsigned i)
{
    counter = (int)(3 * explore_choose(3, "a") + explore_choose(3, "b"));
    explore_check(counter != 7);
}

int main(int argc, char **argv)
{
    static const struct explore_scenario scenarios[] = {
        {"lock-broken", 3, lock_broken, lock_setup, .must_fail = "inside == 0"},
        {"lock-repaired", 3, lock_repaired, lock_setup, lock_check},
        {"lock-forgotten", 2, lock_forgotten, lock_setup, .must_fail = "stuck"},
        {"sleep-broken", 2, sleep_broken, sleep_setup, .must_fail = "stuck: actor 0 at 'eventfd"},
        {"sleep-repaired", 2, sleep_repaired, sleep_setup, .must_finish = true},
        {"fence-missing", 2, fence_missing, fence_setup, fence_check, .must_fail = "seen[0]"},
        {"fence-light-only", 2, fence_light_only, fence_setup, fence_check, .must_fail = "seen[0]"},
        {"fence-pair", 2, fence_pair, fence_setup, fence_check, .must_finish = true},
        {"pass-relaxed", 2, pass_relaxed, fence_setup, .must_fail = "flags[0]"},
        {"pass-released", 2, pass_released, fence_setup, .must_finish = true},
        {"rcu-broken", 2, rcu_broken, rcu_setup, .must_fail = "!object->is_freed"},
        {"rcu-repaired", 2, rcu_repaired, rcu_setup, .must_finish = true},
        {"cond-broken", 3, cond_broken, cond_setup, .must_fail = "items > 0"},
        {"cond-repaired", 3, cond_repaired, cond_setup},
        {"counter-broken", 2, counter_broken, counter_setup, counter_check, .must_fail = "counter"},
        {"choices", 1, choices, .must_fail = "counter != 7"},
    };
    return explore_main(argc, argv, scenarios, countof(scenarios));
}

/* test_rcu.c -- grace periods, callbacks, and the asymmetric fence pair. */
#include "../os/helper.h"
#include "base/mem.h"
#include "os/thread.h"
#include "os/time.h"
#include "sync/asym.h"
#include "sync/rcu.h"
#include <stdlib.h>
#include <string.h>

/* ---- a grace period waits for a reader, and for nobody else ---- */

static uint32_t reader_is_inside, reader_may_leave, grace_is_over;

static void spin_until(const uint32_t *flag)
{
    while (!at_load(flag)) {
        at_relax();
    }
}

static void reader(void *opaque)
{
    rcu_thread_register();
    {
        RCU_READ_SCOPE();
        at_store(&reader_is_inside, 1);
        spin_until(&reader_may_leave);
        assert_false(at_load(&grace_is_over));
    }
    rcu_thread_unregister();
}

static void writer(void *opaque)
{
    rcu_synchronize();
    at_store(&grace_is_over, 1);
}

static void pause_ns(uint64_t ns)
{
    for (uint64_t start = os_now_monotonic_ns(); os_now_monotonic_ns() - start < ns;) {
        at_relax();
    }
}

static void grace_period_waits_for_readers(void **state)
{
    struct os_thread *a = os_thread_start("reader", reader, NULL), *b;

    spin_until(&reader_is_inside);
    b = os_thread_start("writer", writer, NULL);
    pause_ns(50000000);
    assert_false(at_load(&grace_is_over));
    at_store(&reader_may_leave, 1);
    os_thread_join(a);
    os_thread_join(b);
    assert_true(at_load(&grace_is_over));
}

/* ---- callbacks ---- */

struct object {
    struct rcu_node rcu;
    uint32_t alive;
};
static struct object *current;
static uint32_t stop, freed;

static void free_object(struct rcu_node *node)
{
    struct object *object = container_of(node, struct object, rcu);

    at_store_relaxed(&object->alive, 0);
    at_add(&freed, 1);
    mem_free(object);
}

static void look(void *opaque)
{
    rcu_thread_register();
    while (!at_load(&stop)) {
        RCU_READ_SCOPE();
        assert_true(rcu_is_reading());
        struct object *object = rcu_get(&current);

        for (int i = 0; i < 20; i++) {
            assert_int_equal(at_load_relaxed(&object->alive), 1);
        }
    }
    assert_false(rcu_is_reading());
    rcu_thread_unregister();
}

static struct object *object_new(void)
{
    struct object *object = mem_new(struct object);

    object->alive = 1;
    return object;
}

static void replaced_objects_outlive_their_readers(void **state)
{
    enum { ROUNDS = 20000 };
    struct os_thread *thread;

    rcu_thread_register();
    current = object_new();
    thread = os_thread_start("look", look, NULL);
    for (int i = 0; i < ROUNDS; i++) {
        struct object *old = current;

        rcu_publish(&current, object_new());
        rcu_call(&old->rcu, free_object);
    }
    at_store(&stop, 1);
    os_thread_join(thread);
    rcu_barrier_wait();
    assert_int_equal(at_load(&freed), ROUNDS);
    mem_free(current);
    rcu_thread_unregister();
}

/* From a thread that is not registered, too; and when there is nothing to wait for. */
static void barrier_from_anywhere(void **state)
{
    struct object *object = object_new();

    at_store(&freed, 0);
    rcu_thread_register();
    rcu_call(&object->rcu, free_object);
    rcu_thread_unregister();
    rcu_barrier_wait();
    assert_int_equal(at_load(&freed), 1);
    assert_false(rcu_thread_is_registered());
    rcu_barrier_wait();
}

static void sections_nest(void **state)
{
    rcu_thread_register();
    assert_true(rcu_thread_is_registered());
    rcu_read_enter();
    rcu_read_enter();
    rcu_read_leave();
    assert_true(rcu_is_reading());
    rcu_read_leave();
    assert_false(rcu_is_reading());
    rcu_thread_offline();
    rcu_thread_online();
    rcu_thread_unregister();
    assert_false(rcu_thread_is_registered());
}

static void read_unregistered(void)
{
    rcu_read_enter();
}

static void wait_while_reading(void)
{
    rcu_thread_register();
    rcu_read_enter();
    rcu_synchronize();
}

static void misuse_aborts(void **state)
{
    assert_true(dies_of(SIGABRT, read_unregistered));
    assert_true(dies_of(SIGABRT, wait_while_reading));
}

/* ---- the fence pair: of two threads that store and then load, one sees the other ---- */

static uint64_t mine, theirs;
static uint32_t round_of_light, round_of_heavy, both_blind;
enum { FENCE_ROUNDS = 20000 };
static uint64_t light_saw;

static void light_side(void *opaque)
{
    for (uint32_t i = 1; i <= FENCE_ROUNDS; i++) {
        while (at_load(&round_of_heavy) != i) {
            at_relax();
        }
        at_store_relaxed(&mine, i);
        asym_light();
        light_saw = at_load_relaxed(&theirs);
        at_store(&round_of_light, i);
    }
}

static void one_side_sees_the_other(void **state)
{
    struct os_thread *thread;

    asym_init();
    thread = os_thread_start("light", light_side, NULL);
    for (uint32_t i = 1; i <= FENCE_ROUNDS; i++) {
        uint64_t heavy_saw;

        at_store(&round_of_heavy, i);
        at_store_relaxed(&theirs, i);
        asym_heavy();
        heavy_saw = at_load_relaxed(&mine);
        while (at_load(&round_of_light) != i) {
            at_relax();
        }
        both_blind += heavy_saw != i && light_saw != i;
    }
    os_thread_join(thread);
    assert_int_equal(both_blind, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(misuse_aborts), /* first: it forks, and there are no threads yet */
        cmocka_unit_test(grace_period_waits_for_readers),
        cmocka_unit_test(replaced_objects_outlive_their_readers),
        cmocka_unit_test(barrier_from_anywhere),
        cmocka_unit_test(sections_nest),
        cmocka_unit_test(one_side_sees_the_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

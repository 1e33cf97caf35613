/* test_bh.c -- bottom halves: order, cancel, delete, idle, many threads. */
#include "harness.h"
#include "os/thread.h"
#include "os/time.h"
#include "sync/atomic.h"

struct trace {
    int seen[64];
    int count;
};
struct step {
    struct trace *trace;
    int number;
};

static void note(void *opaque)
{
    struct step *step = opaque;

    step->trace->seen[step->trace->count++] = step->number;
}

static void order_of_scheduling_is_order_of_running(void **state)
{
    struct loop *loop = *state;
    struct trace trace = {.count = 0};
    struct step steps[10];
    struct bh *bhs[10];

    for (int i = 0; i < 10; i++) {
        steps[i] = (struct step){&trace, i};
        bhs[i] = bh_new(loop, note, &steps[i], "step");
    }
    for (int i = 0; i < 10; i++) {
        bh_schedule(bhs[(i * 3) % 10]);
        bh_schedule(bhs[0]); /* keeps its place */
    }
    bh_once(loop, note, &(struct step){&trace, 99}, "barrier");
    assert_true(loop_poll(loop, true));
    assert_int_equal(trace.count, 11);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(trace.seen[i], (i * 3) % 10);
        bh_delete(bhs[i]);
    }
    assert_int_equal(trace.seen[10], 99);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        loop_test(order_of_scheduling_is_order_of_running),
    };

    test_begin(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

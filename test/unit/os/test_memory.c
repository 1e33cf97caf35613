/* test_memory.c -- memory that is taken away, guards, stacks. */
#include "helper.h"
#include "os/file.h"
#include "os/memory.h"
#include "os/thread.h"
#include "sync/atomic.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct area {
    int fd;
    unsigned char *memory;
    size_t bytes;
    uint32_t broken;
    int slot;
};

/* cmocka takes SIGBUS for itself at the start of each test. */
static struct sigaction ours;

static void remember_handler(void)
{
    static char byte;
    uint32_t broken;

    os_guard_remove(os_guard_add(&(struct os_guard){&byte, 1, &broken}));
    sigaction(SIGBUS, NULL, &ours);
}

static void area_init(struct area *area, size_t pages)
{
    void *memory;

    sigaction(SIGBUS, &ours, NULL);
    area->bytes = pages * os_page_bytes();
    area->broken = 0;
    area->fd = os_memfd("area", area->bytes);
    assert_int_equal(os_map_shared(area->fd, 0, area->bytes, &memory), 0);
    area->memory = memory;
    memset(memory, 0x5a, area->bytes);
    area->slot = os_guard_add(&(struct os_guard){memory, area->bytes, &area->broken});
    assert_true(area->slot >= 0);
}

static void area_fini(struct area *area)
{
    os_guard_remove(area->slot);
    os_unmap(area->memory, area->bytes);
    os_close_now(area->fd);
}

static int peek(const struct area *area, size_t offset)
{
    return *(volatile unsigned char *)(area->memory + offset);
}

static void truncated_memory_reads_as_zero(void **state)
{
    struct area area;
    size_t page = os_page_bytes();

    area_init(&area, 4);
    assert_int_equal(os_ftruncate(area.fd, page), 0);
    assert_int_equal(peek(&area, 0), 0x5a);
    assert_int_equal(area.broken, 0);
    assert_int_equal(peek(&area, 2 * page + 7), 0);
    assert_int_equal(area.broken, 1);
    area.memory[3 * page] = 1; /* a write, too */
    assert_int_equal(peek(&area, 3 * page), 1);
    assert_int_equal(peek(&area, 0), 0x5a); /* what is left stays */
    area_fini(&area);
}

static void only_the_broken_one_is_marked(void **state)
{
    struct area a, b;

    area_init(&a, 2);
    area_init(&b, 2);
    assert_int_equal(os_ftruncate(b.fd, 0), 0);
    assert_int_equal(peek(&b, 0), 0);
    assert_int_equal(b.broken, 1);
    assert_int_equal(a.broken, 0);
    assert_int_equal(peek(&a, 0), 0x5a);
    area_fini(&a);
    area_fini(&b);
}

/* A guard must not reach into the mapping behind it. */
static void guards_end_where_they_end(void **state)
{
    struct area both;
    size_t page = os_page_bytes();
    uint32_t first_broken = 0, second_broken = 0;
    int first, second;

    area_init(&both, 2);
    os_guard_remove(both.slot);
    first = os_guard_add(&(struct os_guard){both.memory, page, &first_broken});
    second = os_guard_add(&(struct os_guard){both.memory + page, page, &second_broken});
    assert_int_equal(os_ftruncate(both.fd, 0), 0);
    assert_int_equal(peek(&both, page), 0);
    assert_int_equal(first_broken, 0);
    assert_int_equal(second_broken, 1);
    os_guard_remove(first);
    both.slot = second;
    area_fini(&both);
}

static void touch_unguarded(void)
{
    struct area area;

    area_init(&area, 1);
    os_guard_remove(area.slot);
    assert_int_equal(os_ftruncate(area.fd, 0), 0);
    peek(&area, 0);
}

static void elsewhere_it_kills(void **state)
{
    assert_true(dies_of(SIGBUS, touch_unguarded));
}

static void sent_by_somebody(void)
{
    struct area area;

    area_init(&area, 1);
    kill(getpid(), SIGBUS);
}

static void a_sent_signal_kills(void **state)
{
    assert_true(dies_of(SIGBUS, sent_by_somebody));
}

static void table_is_bounded(void **state)
{
    static int slots[OS_GUARDS_MAX];
    static char byte;
    uint32_t broken = 0;
    int count = 0, slot;

    while ((slot = os_guard_add(&(struct os_guard){&byte, 1, &broken})) >= 0) {
        slots[count++] = slot;
    }
    assert_int_equal(slot, -ENOSPC);
    assert_int_equal(count, OS_GUARDS_MAX);
    while (count > 0) {
        os_guard_remove(slots[--count]);
    }
}

/* Another thread adds and removes two guards while this one breaks memory again and again. Neither
 * reaches the memory, but the address of the one with the size of the other would. */
static uint32_t churn_broken;
static uint32_t churn_stop;

static void churn(void *opaque)
{
    char *low = (char *)os_page_bytes();
    const struct os_guard small = {low, 1, &churn_broken};
    const struct os_guard huge = {low + ((uintptr_t)1 << 62), (size_t)1 << 61, &churn_broken};

    while (!at_load(&churn_stop)) {
        os_guard_remove(os_guard_add(&small));
        os_guard_remove(os_guard_add(&huge));
    }
}

static void faults_while_the_table_changes(void **state)
{
    struct os_thread *thread = os_thread_start("churn", churn, NULL);

    for (int i = 0; i < 5000; i++) {
        struct area area;

        area_init(&area, 1);
        os_ftruncate(area.fd, 0);
        assert_int_equal(peek(&area, 0), 0);
        assert_int_equal(area.broken, 1);
        area_fini(&area);
    }
    at_store(&churn_stop, 1);
    os_thread_join(thread);
    assert_int_equal(churn_broken, 0);
}

static void overrun_stack(void)
{
    volatile char *stack = os_map_stack(64 << 10);

    stack[0] = 1;
    stack[-1] = 1;
}

static void stack_has_a_guard_page(void **state)
{
    size_t bytes = 64 << 10;
    char *stack = os_map_stack(bytes);

    assert_non_null(stack);
    memset(stack, 1, bytes);
    os_unmap_stack(stack, bytes);
    assert_true(dies_of(SIGSEGV, overrun_stack));
    assert_null(os_map_stack(SIZE_MAX / 2));
}

static void mapping_errors(void **state)
{
    void *address = &address;

    assert_int_equal(os_map_shared(-1, 0, 4096, &address), -EBADF);
    assert_ptr_equal(address, &address);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(truncated_memory_reads_as_zero),
        cmocka_unit_test(only_the_broken_one_is_marked),
        cmocka_unit_test(guards_end_where_they_end),
        cmocka_unit_test(elsewhere_it_kills),
        cmocka_unit_test(a_sent_signal_kills),
        cmocka_unit_test(table_is_bounded),
        cmocka_unit_test(faults_while_the_table_changes),
        cmocka_unit_test(stack_has_a_guard_page),
        cmocka_unit_test(mapping_errors),
    };
    remember_handler();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

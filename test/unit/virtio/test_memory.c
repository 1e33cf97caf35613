/* test_memory.c -- tables of guest memory: what is refused, lookups against a model, lifetimes. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "loop/io.h"
#include "os/file.h"
#include "os/memory.h"
#include "virtio/memory.h"
#include "sigbus.h"

enum { PAGE = 4096 };

/* The worker pool's stand-in: remembers what was handed to it, runs it when the test says so. */
static pool_fn *pool_call;
static void *pool_opaque;
static unsigned pool_calls;

void pool_run(pool_fn *fn, void *opaque)
{
    assert_null(pool_call);
    pool_call = fn;
    pool_opaque = opaque;
    pool_calls++;
}

static void run_pool(void)
{
    pool_fn *fn = pool_call;

    assert_non_null(fn);
    pool_call = NULL;
    (void)fn(pool_opaque);
}

static void drop(struct guest_memory *memory)
{
    guest_memory_unref(memory);
    run_pool();
}

static struct guest_region_def region(uint64_t guest, uint64_t bytes, uint64_t mmap_offset,
                                      uint64_t file_bytes)
{
    int fd = os_memfd("test", file_bytes);

    assert_true(fd >= 0);
    return (struct guest_region_def){guest, bytes, guest + 0x700000000000, mmap_offset, fd};
}

static struct guest_memory *make(const struct guest_region_def *defs, size_t count)
{
    struct guest_memory *memory = NULL;
    struct err *error = NULL;
    int rc = guest_memory_new(defs, count, &memory, &error);

    if (rc < 0) {
        fail_msg("%s", error->text);
    }
    return memory;
}

static void assert_refused(const struct guest_region_def *defs, size_t count, const char *text)
{
    struct guest_memory *memory = (void *)0x55;
    AUTO(err) struct err *error = NULL;

    assert_int_equal(guest_memory_new(defs, count, &memory, &error), -EINVAL);
    assert_ptr_equal(memory, (void *)0x55);
    if (strstr(error->text, text) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", error->text, text);
    }
}

static void bad_regions_are_refused_by_name(void **state)
{
    const uint64_t top = UINT64_MAX - PAGE + 1;
    unsigned fds_before = os_fd_count();
    struct guest_region_def def;
    int pipes[2];

    def = region(PAGE, 0, 0, PAGE);
    assert_refused(&def, 1, "guest address 0x1000 of 0x0 bytes: it is empty");
    def = region(top, PAGE, 0, PAGE);
    def.user_address = 0;
    assert_refused(&def, 1, "its end is beyond 2^64");
    def = region(0, PAGE, 0, PAGE);
    def.user_address = top;
    assert_refused(&def, 1, "its end is beyond 2^64");
    def = region(0, PAGE, top, PAGE);
    assert_refused(&def, 1, "its end is beyond 2^64");
    def = region(0, 2 * PAGE, PAGE, 3 * PAGE - 1);
    assert_refused(&def, 1, "end at 0x3000, but its file has only 0x2fff bytes");
    def = (struct guest_region_def){.bytes = PAGE, .fd = -1};
    assert_refused(&def, 1, "no file descriptor");
    assert_int_equal(os_pipe(pipes), 0);
    def = (struct guest_region_def){.bytes = PAGE, .fd = pipes[0]};
    assert_refused(&def, 1, "is not memory");
    assert_int_equal(os_close_now(pipes[1]), 0);
    assert_int_equal(os_fd_count(), fds_before); /* taken over, also on failure */
}

static void overlaps_are_found_on_every_side(void **state)
{
    static const struct {
        uint64_t guest, bytes;
        bool fits;
    } cases[] = {
        {4 * PAGE, 2 * PAGE, false}, {3 * PAGE, 2 * PAGE, false}, {5 * PAGE, 4 * PAGE, false},
        {3 * PAGE, 8 * PAGE, false}, {4 * PAGE + 1, 1, false},    {6 * PAGE - 1, PAGE, false},
        {2 * PAGE, 2 * PAGE, true},  {6 * PAGE, PAGE, true},      {4 * PAGE, 1, false},
        {9 * PAGE, 2 * PAGE, false}, {0, 64 * PAGE, false},       {7 * PAGE, 3 * PAGE, true},
    };
    for (size_t i = 0; i < countof(cases); i++) {
        for (int swapped = 0; swapped < 2; swapped++) {
            struct guest_region_def defs[3];

            defs[0] = region(4 * PAGE, 2 * PAGE, 0, 2 * PAGE);
            defs[1] = region(10 * PAGE, PAGE, 0, PAGE);
            defs[2] = region(cases[i].guest, cases[i].bytes, 0, 64 * PAGE);
            if (swapped) {
                struct guest_region_def first = defs[0];

                defs[0] = defs[2];
                defs[2] = first;
            }
            if (cases[i].fits) {
                drop(make(defs, 3));
            } else {
                assert_refused(defs, 3, "it overlaps the region at 0x");
            }
        }
    }
}

static struct guest_region_def *many_regions(size_t count, int fd)
{
    struct guest_region_def *defs = mem_alloc_array(count, sizeof(*defs));

    for (size_t i = 0; i < count; i++) { /* backwards: sorting is not the front end's duty */
        uint64_t guest = (count - i) * 2 * PAGE;

        defs[i] = (struct guest_region_def){guest, PAGE, guest, 0, os_dup(fd)};
    }
    return defs;
}

static void at_most_509_regions(void **state)
{
    int fd = os_memfd("test", PAGE);
    struct guest_region_def *defs = many_regions(GUEST_REGIONS_MAX + 1, fd);
    struct guest_memory *memory, *more = NULL;
    AUTO(err) struct err *error = NULL;
    struct guest_region_def another;

    assert_refused(defs, GUEST_REGIONS_MAX + 1, "510 memory regions, at most 509 are allowed");
    mem_free(defs);
    defs = many_regions(GUEST_REGIONS_MAX, fd);
    memory = make(defs, GUEST_REGIONS_MAX);
    assert_int_equal(guest_memory_region_count(memory), GUEST_REGIONS_MAX);
    another = (struct guest_region_def){0, PAGE, 0, 0, os_dup(fd)};
    assert_int_equal(guest_memory_with(memory, &another, &more, &error), -EINVAL);
    assert_non_null(strstr(error->text, "at most 509"));
    mem_free(defs);
    drop(memory);
    assert_int_equal(os_close(fd), 0);
}

/* Offsets that are not whole pages, and content that really is the file's. */
static void content_is_found_at_any_offset(void **state)
{
    static const uint64_t offsets[] = {0, 1, 100, PAGE - 1, PAGE, PAGE + 7, 3 * PAGE - 5};

    for (size_t i = 0; i < countof(offsets); i++) {
        struct guest_region_def def = region(0x10000, PAGE + 3, offsets[i], 5 * PAGE);
        struct iovec iov = {(void *)(uintptr_t) "caisson", 7};
        struct guest_memory *memory;

        assert_int_equal(os_pwritev(def.fd, &iov, 1, offsets[i] + 5, false), 7);
        memory = make(&def, 1);
        assert_memory_equal(guest_memory_at(memory, 0x10005, 7), "caisson", 7);
        assert_memory_equal(guest_memory_at_user(memory, 0x700000010005, 7), "caisson", 7);
        assert_non_null(guest_memory_at(memory, 0x10000, PAGE + 3));
        assert_null(guest_memory_at(memory, 0x10000, PAGE + 4));
        assert_null(guest_memory_at(memory, 0xffff, 1));
        assert_null(guest_memory_at(memory, 0x10005, UINT64_MAX));
        assert_null(guest_memory_at_user(memory, 0x70000000ffff, 2));
        assert_null(guest_memory_at_user(memory, 0x700000010000, PAGE + 4));
        assert_null(guest_memory_at_user(memory, 0x700000010000, UINT64_MAX - 0x10));
        drop(memory);
    }
}

static void a_range_may_run_over_abutting_regions(void **state)
{
    struct guest_region_def defs[3] = {region(2 * PAGE, PAGE, 0, PAGE),
                                       region(0, 2 * PAGE, 0, 2 * PAGE),
                                       region(4 * PAGE, PAGE, 0, PAGE)};
    struct guest_memory *memory = make(defs, 3);
    struct iovec iov[3];

    assert_int_equal(guest_memory_pieces(memory, 2 * PAGE - 10, 30, iov, 3), 2);
    assert_ptr_equal(iov[0].iov_base, guest_memory_at(memory, 2 * PAGE - 10, 10));
    assert_int_equal(iov[0].iov_len, 10);
    assert_ptr_equal(iov[1].iov_base, guest_memory_at(memory, 2 * PAGE, 1));
    assert_int_equal(iov[1].iov_len, 20);
    assert_null(guest_memory_at(memory, 2 * PAGE - 10, 30));
    assert_int_equal(guest_memory_pieces(memory, 0, 3 * PAGE, iov, 1), -E2BIG);
    assert_int_equal(guest_memory_pieces(memory, 0, 3 * PAGE, iov, 2), 2);
    assert_int_equal(guest_memory_pieces(memory, 0, 3 * PAGE + 1, iov, 3), -EFAULT); /* the hole */
    assert_int_equal(guest_memory_pieces(memory, 5 * PAGE, 1, iov, 3), -EFAULT);
    assert_int_equal(guest_memory_pieces(memory, 5 * PAGE - 1, UINT64_MAX, iov, 3), -EFAULT);
    assert_int_equal(guest_memory_pieces(memory, 9, 0, iov, 3), 0);
    drop(memory);
}

static void the_top_of_the_address_space(void **state)
{
    struct guest_region_def def = region(UINT64_MAX - PAGE, PAGE, 0, PAGE);
    struct guest_memory *memory;
    struct iovec iov[3];

    def.user_address = 0;
    memory = make(&def, 1);
    assert_int_equal(guest_memory_pieces(memory, UINT64_MAX - 4, 4, iov, 3), 1);
    assert_int_equal(guest_memory_pieces(memory, UINT64_MAX - 4, 5, iov, 3), -EFAULT);
    assert_int_equal(guest_memory_pieces(memory, UINT64_MAX - 4, 500, iov, 3), -EFAULT);
    assert_int_equal(guest_memory_pieces(memory, UINT64_MAX, 1, iov, 3), -EFAULT);
    drop(memory);
}

/* Many regions with holes, random addresses, any hint: the same as a linear search. */
static void lookups_match_a_linear_search(void **state)
{
    enum { COUNT = 100, ROUNDS = 50000 };
    int fd = os_memfd("test", PAGE);
    struct guest_region_def *defs = many_regions(COUNT, fd);
    struct guest_memory *memory = make(defs, COUNT);
    unsigned seed = 17, hint = 0;

    for (int round = 0; round < ROUNDS; round++) {
        uint64_t address = (uint64_t)rand_r(&seed) % ((COUNT + 2) * 2 * PAGE);
        uint64_t bytes = (uint64_t)rand_r(&seed) % 100;
        bool inside = false;
        void *found;

        for (size_t i = 0; i < COUNT; i++) {
            inside |= address >= defs[i].guest_address &&
                      address + bytes <= defs[i].guest_address + PAGE &&
                      address < defs[i].guest_address + PAGE;
        }
        if (round % 3 == 0) {
            hint = (unsigned)rand_r(&seed);
        }
        found = guest_memory_at_hint(memory, address, bytes, &hint);
        assert_int_equal(found != NULL, inside);
        assert_ptr_equal(found, guest_memory_at(memory, address, bytes));
        if (found != NULL) {
            assert_int_equal((uintptr_t)found % PAGE, address % PAGE);
        }
    }
    mem_free(defs);
    drop(memory);
    assert_int_equal(os_close(fd), 0);
}

static void tables_share_mappings(void **state)
{
    struct guest_region_def first = region(0, PAGE, 0, PAGE), second = region(PAGE, PAGE, 0, PAGE);
    struct guest_memory *one = make(&first, 1), *two = NULL, *three = NULL;
    AUTO(err) struct err *error = NULL;
    unsigned calls = pool_calls;
    uint8_t *address;

    assert_int_equal(guest_memory_with(one, &second, &two, NULL), 0);
    assert_int_equal(guest_memory_region_count(one), 1);
    assert_int_equal(guest_memory_region_count(two), 2);
    assert_ptr_equal(guest_memory_at(one, 0, 1), guest_memory_at(two, 0, 1));
    second = region(PAGE + 5, 1, 0, PAGE);
    assert_int_equal(guest_memory_with(two, &second, &three, &error), -EINVAL);
    assert_non_null(strstr(error->text, "it overlaps the region at 0x1000"));
    err_free(take(&error));
    assert_null(three);

    assert_int_equal(guest_memory_without(two, &first, &three, NULL), 0);
    assert_int_equal(guest_memory_region_count(three), 1);
    assert_null(guest_memory_at(three, 0, 1));
    first.user_address++;
    assert_int_equal(guest_memory_without(two, &first, &three, &error), -ENOENT);
    assert_non_null(strstr(error->text, "there is none like it"));
    first.user_address--;
    first.bytes++;
    assert_int_equal(guest_memory_without(two, &first, &three, NULL), -ENOENT);

    address = guest_memory_at(three, PAGE, PAGE);
    drop(one);
    drop(two);
    address[0] = 1; /* still mapped */
    (void)guest_memory_ref(three);
    guest_memory_unref(three);
    assert_int_equal(pool_calls, calls + 2);
    drop(three);
}

static unsigned mapping_lines(void)
{
    static char text[1 << 20];
    unsigned lines = 0;
    ssize_t bytes;
    int fd = os_open("/proc/self/maps", O_RDONLY, 0);

    assert_true(fd >= 0);
    while ((bytes = os_read(fd, text, sizeof(text) - 1)) > 0) {
        text[bytes] = 0;
        for (char *at = text; (at = strstr(at, "caisson-test-map")) != NULL; at++) {
            lines++;
        }
    }
    assert_int_equal(os_close(fd), 0);
    return lines;
}

static void the_last_reference_unmaps_in_the_pool(void **state)
{
    int fd = os_memfd("caisson-test-map", 2 * PAGE);
    struct guest_region_def defs[2] = {{0, PAGE, 0, 0, os_dup(fd)}, {PAGE, PAGE, PAGE, 0, fd}};
    struct guest_memory *memory = make(defs, 2);

    assert_int_equal(mapping_lines(), 2);
    guest_memory_unref(memory);
    assert_int_equal(mapping_lines(), 2); /* not on the caller's thread */
    run_pool();
    assert_int_equal(mapping_lines(), 0);
    guest_memory_unref(NULL);
}

static void truncated_memory_breaks_its_family_alone(void **state)
{
    struct guest_region_def mine = region(0, 2 * PAGE, 0, 2 * PAGE);
    struct guest_region_def other = region(0, PAGE, 0, PAGE);
    struct guest_region_def extra = region(8 * PAGE, PAGE, 0, PAGE);
    int fd = os_dup(mine.fd);
    struct guest_memory *memory = make(&mine, 1), *neighbour = make(&other, 1), *more;
    volatile uint8_t *at = guest_memory_at(memory, 0, 2 * PAGE);

    sigbus_to_guards();
    assert_int_equal(guest_memory_with(memory, &extra, &more, NULL), 0);
    at[PAGE] = 7;
    assert_int_equal(os_ftruncate(fd, PAGE), 0);
    assert_false(guest_memory_is_broken(memory));
    at[0] = 3; /* the part that is left works */
    assert_false(guest_memory_is_broken(memory));
    assert_int_equal(at[PAGE], 0); /* SIGBUS here; a zero page takes its place */
    assert_true(guest_memory_is_broken(memory));
    assert_true(guest_memory_is_broken(more));
    assert_false(guest_memory_is_broken(neighbour));
    at[PAGE] = 9; /* harms nobody */
    assert_int_equal(at[0], 3);
    assert_int_equal(os_close(fd), 0);
    drop(memory);
    drop(neighbour);
    drop(more);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_regions_are_refused_by_name),
        cmocka_unit_test(overlaps_are_found_on_every_side),
        cmocka_unit_test(at_most_509_regions),
        cmocka_unit_test(content_is_found_at_any_offset),
        cmocka_unit_test(a_range_may_run_over_abutting_regions),
        cmocka_unit_test(the_top_of_the_address_space),
        cmocka_unit_test(lookups_match_a_linear_search),
        cmocka_unit_test(tables_share_mappings),
        cmocka_unit_test(the_last_reference_unmaps_in_the_pool),
        cmocka_unit_test(truncated_memory_breaks_its_family_alone),
    };
    sigbus_remember();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

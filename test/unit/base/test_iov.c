/* test_iov.c -- scatter-gather lists against a flat array, and the list type. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "base/checked.h"
#include "base/iov.h"
#include "base/list.h"

enum { FLAT_BYTES = 257, PIECES = 9 };

/* Cut @flat into PIECES pieces, some of them empty. */
static void cut(uint8_t *flat, struct iovec *iov, unsigned *seed)
{
    size_t at = 0;

    for (size_t i = 0; i < PIECES; i++) {
        size_t left = FLAT_BYTES - at;
        size_t bytes = i == PIECES - 1 ? left : (size_t)rand_r(seed) % (left / 2 + 1);

        iov[i] = (struct iovec){flat + at, bytes};
        at += bytes;
    }
}

static void copies_match_a_flat_array(void **state)
{
    unsigned seed = 4711;

    for (int round = 0; round < 2000; round++) {
        uint8_t flat[FLAT_BYTES], twin[FLAT_BYTES], data[FLAT_BYTES + 20];
        struct iovec iov[PIECES];
        size_t offset = (size_t)rand_r(&seed) % (FLAT_BYTES + 10);
        size_t bytes = (size_t)rand_r(&seed) % (FLAT_BYTES + 20);
        size_t fits = offset >= FLAT_BYTES ? 0 : min_of(bytes, FLAT_BYTES - offset);

        for (size_t i = 0; i < FLAT_BYTES; i++) {
            flat[i] = twin[i] = (uint8_t)rand_r(&seed);
        }
        cut(flat, iov, &seed);
        assert_int_equal(iov_bytes(iov, PIECES), FLAT_BYTES);

        memset(data, 0x5a, sizeof(data));
        assert_int_equal(iov_copy_out(iov, PIECES, offset, data, bytes), fits);
        assert_memory_equal(data, twin + min_of(offset, (size_t)FLAT_BYTES), fits);
        assert_int_equal(data[fits], 0x5a);

        memset(data, round & 0xff, sizeof(data));
        assert_int_equal(iov_copy_in(iov, PIECES, offset, data, bytes), fits);
        memset(twin + min_of(offset, (size_t)FLAT_BYTES), round & 0xff, fits);
        assert_memory_equal(flat, twin, FLAT_BYTES);

        assert_int_equal(iov_fill(iov, PIECES, offset, 0, bytes), fits);
        memset(twin + min_of(offset, (size_t)FLAT_BYTES), 0, fits);
        assert_memory_equal(flat, twin, FLAT_BYTES);
    }
}

static void slices_cover_exactly(void **state)
{
    uint8_t flat[FLAT_BYTES], out[FLAT_BYTES];
    struct iovec iov[PIECES], part[PIECES];
    unsigned seed = 3;

    for (size_t i = 0; i < FLAT_BYTES; i++) {
        flat[i] = (uint8_t)i;
    }
    for (int round = 0; round < 2000; round++) {
        size_t offset = (size_t)rand_r(&seed) % FLAT_BYTES;
        size_t bytes = 1 + (size_t)rand_r(&seed) % (FLAT_BYTES - offset);
        int count;

        cut(flat, iov, &seed);
        count = iov_slice(iov, PIECES, offset, bytes, part, PIECES);
        assert_true(count > 0);
        assert_int_equal(iov_bytes(part, (size_t)count), bytes);
        iov_copy_out(part, (size_t)count, 0, out, bytes);
        assert_memory_equal(out, flat + offset, bytes);
        assert_int_equal(iov_slice(iov, PIECES, offset, FLAT_BYTES - offset + 1, part, PIECES), -1);
        if (count > 1) {
            assert_int_equal(iov_slice(iov, PIECES, offset, bytes, part, (size_t)count - 1), -1);
        }
    }
}

static void zero_and_alignment(void **state)
{
    _Alignas(512) uint8_t flat[1024] = {0};
    struct iovec iov[2] = {{flat, 512}, {flat + 512, 512}};

    assert_true(iov_is_zero(iov, 2));
    flat[1023] = 1;
    assert_false(iov_is_zero(iov, 2));
    flat[1023] = 0;
    flat[0] = 1;
    assert_false(iov_is_zero(iov, 2));
    assert_true(iov_is_aligned(iov, 2, 512));
    iov[1].iov_len = 511;
    assert_false(iov_is_aligned(iov, 2, 512));
    iov[1] = (struct iovec){flat + 513, 512};
    assert_false(iov_is_aligned(iov, 2, 512));
}

static void ranges(void **state)
{
    assert_true(range_is_inside(0, 0, 0));
    assert_true(range_is_inside(10, 6, 16));
    assert_false(range_is_inside(10, 7, 16));
    assert_false(range_is_inside(UINT64_MAX, 2, 16));
    assert_false(range_is_inside(2, UINT64_MAX, 16));
    assert_true(ranges_overlap(0, 10, 9, 1));
    assert_false(ranges_overlap(0, 10, 10, 1));
    assert_true(align_up(513, 512) == 1024 && align_down(513, 512) == 512);
}

static void lists_keep_order(void **state)
{
    struct item {
        int value;
        struct list link;
    } items[4];
    struct list head = LIST_INIT(head), other = LIST_INIT(other);
    struct item *item, *following;
    int expected = 0;

    for (int i = 0; i < 4; i++) {
        items[i].value = i;
        list_add_tail(i < 2 ? &head : &other, &items[i].link);
    }
    list_splice_tail(&head, &other);
    assert_true(list_is_empty(&other));
    list_for_each_safe(item, following, &head, link) {
        assert_int_equal(item->value, expected++);
        list_remove(&item->link);
        list_remove(&item->link); /* harmless */
        assert_false(list_is_linked(&item->link));
    }
    assert_int_equal(expected, 4);
    assert_null(list_pop_head(&head));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_match_a_flat_array),
        cmocka_unit_test(slices_cover_exactly),
        cmocka_unit_test(zero_and_alignment),
        cmocka_unit_test(ranges),
        cmocka_unit_test(lists_keep_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

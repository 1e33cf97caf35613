/*
 * test_bench.c -- the parts of `caisson bench`: histograms against sorted values, stamps,
 * arguments.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "cli/bench.h"
#include "cli/bench_int.h"

/* virtq.c's archive needs it, nothing here calls it. */
typedef int64_t pool_fn(void *opaque);
void pool_run(pool_fn *fn, void *opaque);
void pool_run(pool_fn *fn, void *opaque)
{
    (void)fn(opaque);
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* Latencies of every size: a percentile is never below the true one and at most 1/32 above it. */
static void percentiles_are_close(void **state)
{
    enum { COUNT = 19999 };
    static const unsigned per_mille[] = {0, 1, 10, 500, 900, 990, 999, 1000};
    uint64_t *values = mem_alloc_array(COUNT, sizeof(*values)), sum = 0;
    struct bench_hist *hist = mem_new(struct bench_hist);
    unsigned seed = 5;

    for (size_t i = 0; i < COUNT; i++) {
        values[i] = ((uint64_t)rand_r(&seed) << 20 | (uint64_t)rand_r(&seed)) >>
                    ((unsigned)rand_r(&seed) % 48);
        sum += values[i];
        bench_hist_add(hist, values[i]);
    }
    qsort(values, COUNT, sizeof(*values), by_value);
    for (size_t i = 0; i < countof(per_mille); i++) {
        size_t rank = max_of(((size_t)COUNT * per_mille[i] + 999) / 1000, (size_t)1);
        uint64_t right = values[rank - 1], said = bench_hist_percentile(hist, per_mille[i]);

        assert_true(said >= right);
        assert_true(said <= right + right / 32);
    }
    assert_int_equal(bench_hist_percentile(hist, 1000), values[COUNT - 1]);
    assert_int_equal(hist->max_ns, values[COUNT - 1]);
    assert_int_equal(hist->count, COUNT);
    assert_true(bench_hist_mean(hist) == (double)sum / (double)hist->count);
    mem_free(values);
    mem_free(hist);
}

static void merged_histograms_are_one(void **state)
{
    struct bench_hist *one = mem_new(struct bench_hist), *two = mem_new(struct bench_hist);
    struct bench_hist *both = mem_new(struct bench_hist);

    for (uint64_t i = 0; i < 1000; i++) {
        bench_hist_add(i % 3 == 0 ? one : two, i * i);
        bench_hist_add(both, i * i);
    }
    bench_hist_add(one, UINT64_MAX);
    bench_hist_add(both, UINT64_MAX);
    bench_hist_merge(one, two);
    assert_memory_equal(one, both, sizeof(*one));
    memset(one, 0, sizeof(*one));
    bench_hist_add(one, 10);
    bench_hist_add(one, 20);
    bench_hist_add(one, 30);
    assert_int_equal(bench_hist_percentile(one, 333), 10);
    assert_int_equal(bench_hist_percentile(one, 500), 20);
    assert_int_equal(bench_hist_percentile(one, 667), 30);
    memset(one, 0, sizeof(*one));
    assert_int_equal(bench_hist_percentile(one, 500), 0);
    assert_true(bench_hist_mean(one) == 0);
    mem_free(one);
    mem_free(two);
    mem_free(both);
}

static void assert_wrong(const uint8_t *data, const char *text)
{
    AUTO(err) struct err *error = NULL;

    assert_int_equal(bench_check(data, 4096, 8192, 77, 3, &error), -EIO);
    if (strstr(error->text, text) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", error->text, text);
    }
}

static void wrong_blocks_are_explained(void **state)
{
    static const size_t torn_at[] = {32, 511, 512 + 40, 4095};
    uint8_t data[4096];

    bench_stamp(data, sizeof(data), 8192, 77, 3);
    assert_int_equal(bench_check(data, sizeof(data), 8192, 77, 3, NULL), 0);
    for (size_t i = 0; i < countof(torn_at); i++) {
        data[torn_at[i]] ^= 1;
        assert_wrong(data, "(torn)");
        data[torn_at[i]] ^= 1;
    }
    bench_stamp(data + 3584, 512, 8192 + 3584, 77, 2); /* the last sector is an older one */
    assert_wrong(data, "offset 11776: expected generation 3, found an older one, 2");
    bench_stamp(data + 3584, 512, 8192 + 3584, 77, 4);
    assert_wrong(data, "offset 11776: expected generation 3, found a newer one, 4");
    bench_stamp(data, sizeof(data), 8192, 76, 3);
    assert_wrong(data, "found what another run wrote (seed 76, ours is 77)");
    bench_stamp(data, sizeof(data), 4096, 77, 3);
    assert_wrong(data, "offset 8192: found what belongs to offset 4096 (generation 3)");
    bench_stamp(data, sizeof(data), 8192, 77, 3);
    bench_unstamp(data, sizeof(data));
    assert_wrong(data, "found nothing of ours");
    memset(data, 0xff, sizeof(data));
    assert_wrong(data, "found nothing of ours (it begins ffffffffffffffff)");
}

/* Every wrong command line is refused before anything is connected to. */
static void wrong_arguments(void **state)
{
    static char *const lines[][8] = {
        {"bench"},
        {"bench", "vhost-user-blk"},
        {"bench", "vhost-user-net", "/nowhere"},
        {"bench", "vhost-user-blk", "/nowhere", "twice"},
        {"bench", "vhost-user-blk", "/nowhere", "--depth"},
        {"bench", "vhost-user-blk", "/nowhere", "--depth", "0"},
        {"bench", "vhost-user-blk", "/nowhere", "--queues=65"},
        {"bench", "vhost-user-blk", "/nowhere", "--rw", "erase"},
        {"bench", "vhost-user-blk", "/nowhere", "--colour", "red"},
        {"bench", "vhost-user-blk", "/nowhere", "--seconds", "soon"},
        {"bench", "vhost-user-blk", "/nowhere", "--seconds", "1.5s"},
        {"bench", "vhost-user-blk", "/nowhere", "--seconds", "0"},
        {"bench", "vhost-user-blk", "/nowhere", "--seconds", "99999999999999999999"},
        {"bench", "vhost-user-blk", "/nowhere", "--seconds", "1000001"},
        {"bench", "vhost-user-blk", "/nowhere", "--seconds", "1", "--requests", "1"},
        {"bench", "vhost-user-blk", "/nowhere", "--block-size", "1000"},
        {"bench", "vhost-user-blk", "/nowhere", "--block-size", "128M"},
        {"bench", "vhost-user-blk", "/nowhere", "--lun", "0:0"},
        {"bench", "vhost-user-scsi", "/nowhere", "--lun", "0"},
        {"bench", "vhost-user-scsi", "/nowhere", "--lun", "256:0"},
        {"bench", "vhost-user-scsi", "/nowhere", "--lun", "0:16384"},
        {"bench", "vhost-user-scsi", "/nowhere", "--verify=perhaps"},
    };
    for (size_t i = 0; i < countof(lines); i++) {
        char *argv[9] = {NULL};
        int argc = 0;

        for (; argc < 8 && lines[i][argc] != NULL; argc++) {
            argv[argc] = lines[i][argc];
        }
        if (cli_bench_main(argc, argv) != BENCH_USAGE) {
            fail_msg("line %zu was taken", i);
        }
    }
}

static void nobody_answers(void **state)
{
    char *argv[] = {"bench", "vhost-user-scsi", "/nonexistent/socket", "--poll", "--lun",
                    "255:16383", "--seconds", "0.25", NULL};

    assert_int_equal(cli_bench_main(8, argv), BENCH_NO_CONNECTION);
    argv[1] = "vhost-user-blk";
    assert_int_equal(cli_bench_main(4, argv), BENCH_NO_CONNECTION);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(percentiles_are_close),
        cmocka_unit_test(merged_histograms_are_one),
        cmocka_unit_test(wrong_blocks_are_explained),
        cmocka_unit_test(wrong_arguments),
        cmocka_unit_test(nobody_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

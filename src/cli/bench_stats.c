/*
 * bench_stats.c -- histograms of latencies.
 *
 * Values below 32 have a bucket each; above, each power of two is cut into 32 equal parts.
 */
#include "cli/bench_int.h"

enum { SUB = 1 << BENCH_HIST_SUB_BITS };

static unsigned bucket_of(uint64_t ns)
{
    unsigned exponent;

    if (ns < SUB) {
        return (unsigned)ns;
    }
    exponent = 63 - (unsigned)__builtin_clzll(ns) - BENCH_HIST_SUB_BITS;
    return (exponent + 1) * SUB + (unsigned)(ns >> exponent) - SUB;
}

/* The largest value of a bucket. */
static uint64_t bucket_end(unsigned bucket)
{
    unsigned exponent;

    if (bucket < SUB) {
        return bucket;
    }
    exponent = bucket / SUB - 1;
    return ((uint64_t)(bucket % SUB + SUB) << exponent) + ((UINT64_C(1) << exponent) - 1);
}

void bench_hist_add(struct bench_hist *hist, uint64_t ns)
{
    hist->buckets[bucket_of(ns)]++;
    hist->count++;
    hist->sum_ns += ns;
    hist->max_ns = max_of(hist->max_ns, ns);
}

void bench_hist_merge(struct bench_hist *to, const struct bench_hist *from)
{
    for (unsigned i = 0; i < BENCH_HIST_BUCKETS; i++) {
        to->buckets[i] += from->buckets[i];
    }
    to->count += from->count;
    to->sum_ns += from->sum_ns;
    to->max_ns = max_of(to->max_ns, from->max_ns);
}

uint64_t bench_hist_percentile(const struct bench_hist *hist, unsigned per_mille)
{
    uint64_t wanted = (hist->count * per_mille + 999) / 1000, seen = 0;

    for (unsigned i = 0; i < BENCH_HIST_BUCKETS; i++) {
        seen += hist->buckets[i];
        if (seen >= wanted && seen > 0) {
            return min_of(bucket_end(i), hist->max_ns);
        }
    }
    return hist->max_ns;
}

double bench_hist_mean(const struct bench_hist *hist)
{
    return hist->count == 0 ? 0 : (double)hist->sum_ns / (double)hist->count;
}

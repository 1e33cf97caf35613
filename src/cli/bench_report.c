/*
 * bench_report.c -- the result of a run: a few lines for a person, or one JSON object.
 */
#include "base/mem.h"
#include "base/str.h"
#include "cli/bench_int.h"
#include <inttypes.h>
#include <stdio.h>

static double per_second(const struct bench *bench, uint64_t count)
{
    return bench->elapsed_ns == 0 ? 0 : (double)count * 1e9 / (double)bench->elapsed_ns;
}

static double per_request(const struct bench *bench, uint64_t ns)
{
    return bench->hist.count == 0 ? 0 : (double)ns / (double)bench->hist.count;
}

/* 950 ns, 12.3 us, 4.56 ms, 7.89 s */
static void add_time(struct strbuf *to, const char *name, double ns)
{
    static const char *const units[] = {"ns", "us", "ms", "s"};
    unsigned unit = 0;

    while (ns >= 1000 && unit < countof(units) - 1) {
        ns /= 1000;
        unit++;
    }
    strbuf_addf(to, "  %s %.*f %s", name, unit == 0 || ns >= 100 ? 0 : ns >= 10 ? 1 : 2, ns,
                units[unit]);
}

static void report_text(const struct bench *bench)
{
    const struct bench_options *options = &bench->options;
    const struct bench_hist *hist = &bench->hist;
    struct strbuf text = {0};

    strbuf_addf(&text, "%s %s: %s, %.2f GiB\n", bench->target->name, bench->path,
                bench->description, (double)bench->capacity_bytes / (1 << 30));
    strbuf_addf(&text,
                "%s of %" PRIu64 " bytes, %" PRIu32 " queue%s x depth %" PRIu32 ", %.2f s%s\n",
                bench_rw_names[options->rw], options->block_bytes, options->queues,
                options->queues == 1 ? "" : "s", options->depth, (double)bench->elapsed_ns / 1e9,
                options->poll ? ", polling" : "");
    strbuf_addf(&text, "  IOPS     %.0f  (%.1f MB/s, %" PRIu64 " requests)\n",
                per_second(bench, hist->count),
                per_second(bench, hist->count * options->block_bytes) / 1e6, hist->count);
    strbuf_addf(&text, "  latency");
    add_time(&text, "mean", bench_hist_mean(hist));
    add_time(&text, "p50", (double)bench_hist_percentile(hist, 500));
    add_time(&text, "p90", (double)bench_hist_percentile(hist, 900));
    add_time(&text, "p99", (double)bench_hist_percentile(hist, 990));
    add_time(&text, "p99.9", (double)bench_hist_percentile(hist, 999));
    add_time(&text, "max", (double)hist->max_ns);
    strbuf_addf(&text, "\n  CPU/IO ");
    add_time(&text, "bench", per_request(bench, bench->cpu_own_ns));
    if (bench->peer_pid != 0) {
        add_time(&text, "back end", per_request(bench, bench->cpu_peer_ns));
        strbuf_addf(&text, "  (process %d, %.0f %% of one CPU)", bench->peer_pid,
                    100.0 * (double)bench->cpu_peer_ns / (double)max_of(bench->elapsed_ns, 1));
    } else {
        strbuf_addf(&text, "  back end unknown: name its process with --cpu-of");
    }
    if (options->verify) {
        strbuf_addf(&text, "\n  verified %" PRIu64 " blocks read, all right", bench->verified);
    }
    puts(text.text);
    strbuf_fini(&text);
}

static json_t *latency_json(const struct bench_hist *hist)
{
    return json_pack("{s:f, s:I, s:I, s:I, s:I, s:I}", "mean", bench_hist_mean(hist), "p50",
                     (json_int_t)bench_hist_percentile(hist, 500), "p90",
                     (json_int_t)bench_hist_percentile(hist, 900), "p99",
                     (json_int_t)bench_hist_percentile(hist, 990), "p99.9",
                     (json_int_t)bench_hist_percentile(hist, 999), "max",
                     (json_int_t)hist->max_ns);
}

static void report_json(const struct bench *bench)
{
    const struct bench_options *options = &bench->options;
    json_t *peer = bench->peer_pid == 0 ? json_null() : json_real(per_request(bench,
                                                                              bench->cpu_peer_ns));
    json_t *report = json_pack(
        "{s:s, s:s, s:s, s:s, s:i, s:i, s:I, s:b, s:I, s:f, s:f, s:f, s:o, s:{s:f, s:o}, s:I, s:i}",
        "type", bench->target->name, "socket", bench->path, "device", bench->description, "rw",
        bench_rw_names[options->rw], "queues", (int)options->queues, "depth", (int)options->depth,
        "block-bytes", (json_int_t)options->block_bytes, "poll", options->poll, "requests",
        (json_int_t)bench->hist.count, "seconds", (double)bench->elapsed_ns / 1e9, "iops",
        per_second(bench, bench->hist.count), "bytes-per-second",
        per_second(bench, bench->hist.count * options->block_bytes), "latency-ns",
        latency_json(&bench->hist), "cpu-ns-per-request", "bench",
        per_request(bench, bench->cpu_own_ns), "backend", peer, "verified-blocks",
        (json_int_t)bench->verified, "backend-pid", bench->peer_pid);
    char *text = json_dumps(report, JSON_INDENT(2) | JSON_REAL_PRECISION(8));

    puts(text);
    json_decref(report);
    mem_free(text);
}

void bench_report(const struct bench *bench)
{
    if (bench->options.json) {
        report_json(bench);
    } else {
        report_text(bench);
    }
}

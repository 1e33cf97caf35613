/*
 * bench.c -- `caisson bench TYPE SOCKET [OPTIONS]`: options in, a report out. docs/bench-tool.md is
 * its manual.
 */
#include "cli/bench.h"
#include "base/checked.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/bench_int.h"
#include "os/file.h"
#include "virtio/vu_msg.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

const char *const bench_rw_names[] = {"randread", "randwrite", "randrw", "read", "write", NULL};

static const struct opt bench_opts[] = {
    {.name = "rw", .type = OPT_ENUM, OPT_AT(struct bench_options, rw), .names = bench_rw_names,
     .dflt = "randread", .since = "0.1",
     .help = "what to do: random or sequential, reads or writes"},
    {.name = "read-percent", .type = OPT_U32, OPT_AT(struct bench_options, read_percent),
     .dflt = "50", .max = 100, .since = "0.1", .help = "share of reads in randrw"},
    {.name = "block-size", .type = OPT_SIZE, OPT_AT(struct bench_options, block_bytes),
     .dflt = "4k", .since = "0.1", .help = "bytes of one request"},
    {.name = "queues", .type = OPT_U32, OPT_AT(struct bench_options, queues), .dflt = "1",
     .min = 1, .max = BENCH_QUEUES_MAX, .since = "0.1", .help = "request queues to use"},
    {.name = "depth", .type = OPT_U32, OPT_AT(struct bench_options, depth), .dflt = "32",
     .min = 1, .max = BENCH_DEPTH_MAX, .since = "0.1", .help = "requests under way in each queue"},
    {.name = "threads", .type = OPT_U32, OPT_AT(struct bench_options, threads), .dflt = "0",
     .max = BENCH_QUEUES_MAX, .since = "0.1",
     .help = "threads that drive the queues (0: one each)"},
    {.name = "poll", .type = OPT_BOOL, OPT_AT(struct bench_options, poll), .since = "0.1",
     .help = "look for completions all the time instead of sleeping"},
    {.name = "seconds", .type = OPT_STR, OPT_AT(struct bench_options, seconds),
     OPT_HAS(struct bench_options, has_seconds), .dflt = "5", .since = "0.1",
     .help = "how long to measure (2.5 is fine)"},
    {.name = "warm-up", .type = OPT_STR, OPT_AT(struct bench_options, warm_up), .dflt = "0.5",
     .since = "0.1", .help = "seconds of load before measuring"},
    {.name = "requests", .type = OPT_U64, OPT_AT(struct bench_options, requests),
     OPT_HAS(struct bench_options, has_requests), .min = 1, .max = INT64_MAX, .since = "0.1",
     .help = "do so many requests instead, and count them all"},
    {.name = "lun", .type = OPT_STR, OPT_AT(struct bench_options, lun), .since = "0.1",
     .help = "TARGET:LUN of the disk (vhost-user-scsi; the first there is)"},
    {.name = "range", .type = OPT_SIZE, OPT_AT(struct bench_options, range_bytes),
     OPT_HAS(struct bench_options, has_range), .since = "0.1",
     .help = "bytes of the disk to use (all of it; with verify at most 64M)"},
    {.name = "range-offset", .type = OPT_SIZE, OPT_AT(struct bench_options, range_offset),
     .since = "0.1", .help = "where the range begins"},
    {.name = "verify", .type = OPT_BOOL, OPT_AT(struct bench_options, verify), .since = "0.1",
     .help = "write known content first, check every block read (overwrites the range)"},
    {.name = "seed", .type = OPT_U64, OPT_AT(struct bench_options, seed), .dflt = "1",
     .since = "0.1", .help = "of the random choices and of what is written"},
    {.name = "timeout", .type = OPT_STR, OPT_AT(struct bench_options, timeout), .dflt = "30",
     .since = "0.1", .help = "seconds to wait for an answer"},
    {.name = "cpu-of", .type = OPT_U32, OPT_AT(struct bench_options, cpu_of), .max = INT32_MAX,
     .since = "0.1", .help = "process whose CPU time is the back end's (the socket's peer)"},
    {.name = "event-idx", .type = OPT_BOOL, OPT_AT(struct bench_options, event_idx), .dflt = "on",
     .since = "0.1", .help = "use EVENT_IDX if it is offered"},
    {.name = "indirect", .type = OPT_BOOL, OPT_AT(struct bench_options, indirect), .dflt = "on",
     .since = "0.1", .help = "use indirect descriptors if they are offered"},
    {.name = "queue-size", .type = OPT_U32, OPT_AT(struct bench_options, queue_size), .dflt = "0",
     .max = 32768, .since = "0.1",
     .help = "descriptors of a ring (0: 128, or what the depth needs)"},
    {.name = "json", .type = OPT_BOOL, OPT_AT(struct bench_options, json), .since = "0.1",
     .help = "report as a JSON object"},
};

const struct opt_table bench_options_table = {
    .name = "bench",
    .help = "load for a vhost-user back end",
    .opts = bench_opts,
    .count = countof(bench_opts),
    .values_bytes = sizeof(struct bench_options),
};

static const struct bench_target *const targets[] = {&bench_scsi, &bench_blk};

/* ---- options ------------------------------------------------------------------------------- */

static void print_usage(FILE *to)
{
    struct strbuf help = {0};

    fprintf(to, "usage: caisson bench TYPE SOCKET [--OPTION VALUE]...\n"
                "A driver of our own as load for the vhost-user back end that listens at SOCKET.\n"
                "TYPE:");
    for (size_t i = 0; i < countof(targets); i++) {
        fprintf(to, " %s", targets[i]->name);
    }
    opt_help(&bench_options_table, &help);
    fprintf(to, "\noptions, each as --NAME VALUE (a bool as --NAME alone):\n%s", help.text);
    strbuf_fini(&help);
}

struct opt_query {
    const char *name;
    size_t bytes;
    const struct opt *found;
};

static bool note_if_named(const struct opt *opt, void *opaque)
{
    struct opt_query *query = opaque;

    if (strlen(opt->name) == query->bytes && memcmp(opt->name, query->name, query->bytes) == 0) {
        query->found = opt;
    }
    return query->found == NULL;
}

/* "--name value", "--name=value"; for switches "--name" alone. How many words were used. */
static int add_option(json_t *object, int left, char **argv, struct err **reterr)
{
    const char *name = argv[0] + 2, *equals = strchr(name, '=');
    size_t name_bytes = equals != NULL ? (size_t)(equals - name) : strlen(name);
    struct opt_query query = {name, name_bytes, NULL};
    const char *value = "on";
    int used = 1;

    opt_each(&bench_options_table, note_if_named, &query);
    if (query.found == NULL) {
        return err_set(reterr, EINVAL, "there is no option --%.*s", (int)name_bytes, name);
    }
    if (equals != NULL) {
        value = equals + 1;
    } else if (query.found->type != OPT_BOOL && left < 2) {
        return err_set(reterr, EINVAL, "--%s needs a value", name);
    } else if (query.found->type != OPT_BOOL) {
        value = argv[1];
        used = 2;
    }
    if (json_object_setn_new(object, name, query.bytes, json_string(value)) < 0) {
        return err_set(reterr, EINVAL, "--%.*s: '%s' is not UTF-8", (int)query.bytes, name, value);
    }
    return used;
}

/* Seconds with a fraction, as nanoseconds. */
static int parse_seconds(const char *name, const char *text, uint64_t *ret_ns, struct err **reterr)
{
    static const uint64_t seconds_max = 1000000;
    uint64_t whole = 0, part = 0, unit = 1000000000;
    const char *at = text;

    for (; *at >= '0' && *at <= '9' && whole <= seconds_max; at++) {
        whole = whole * 10 + (uint64_t)(*at - '0');
    }
    if (*at == '.') {
        for (at++; *at >= '0' && *at <= '9'; at++) {
            unit /= 10;
            part += (uint64_t)(*at - '0') * unit;
        }
    }
    if (*at != '\0' || at == text || whole > seconds_max) {
        return err_set(reterr, EINVAL, "--%s: '%s' is not a number of seconds (like 2 or 0.5)",
                       name, text);
    }
    *ret_ns = whole * 1000000000 + part;
    return 0;
}

static int parse_lun(struct bench_options *options, struct err **reterr)
{
    const char *colon = options->lun == NULL ? NULL : strchr(options->lun, ':');
    AUTO_MEM char *target = NULL;
    uint64_t values[2];

    options->target = options->lun_number = -1;
    if (options->lun == NULL) {
        return 0;
    }
    if (colon != NULL) {
        target = mem_strdup(options->lun);
        target[colon - options->lun] = '\0';
    }
    if (colon == NULL || str_parse_u64(target, 255, &values[0]) < 0 ||
        str_parse_u64(colon + 1, 16383, &values[1]) < 0) {
        return err_set(reterr, EINVAL, "--lun: '%s' is not TARGET:LUN (0 to 255, 0 to 16383)",
                       options->lun);
    }
    options->target = (int)values[0];
    options->lun_number = (int)values[1];
    return 0;
}

static int check_options(const struct bench *bench, struct bench_options *options,
                         struct err **reterr)
{
    int rc = parse_lun(options, reterr);

    if (rc == 0) {
        rc = parse_seconds("seconds", options->seconds, &options->run_ns, reterr);
    }
    if (rc == 0) {
        rc = parse_seconds("warm-up", options->warm_up, &options->warm_up_ns, reterr);
    }
    if (rc == 0) {
        rc = parse_seconds("timeout", options->timeout, &options->timeout_ns, reterr);
    }
    if (rc < 0) {
        return rc;
    }
    if (options->run_ns == 0 || options->timeout_ns == 0) {
        return err_set(reterr, EINVAL, "--seconds and --timeout are more than 0");
    }
    if (options->has_requests && options->has_seconds) {
        return err_set(reterr, EINVAL, "--requests and --seconds: one of them");
    }
    if (options->block_bytes == 0 || options->block_bytes % 512 != 0 ||
        options->block_bytes > 64 << 20) {
        return err_set(reterr, EINVAL, "--block-size: %" PRIu64 " is not a multiple of 512 up to "
                       "64M", options->block_bytes);
    }
    if (options->lun != NULL && bench->target != &bench_scsi) {
        return err_set(reterr, EINVAL, "--lun: %s has no LUNs", bench->target->name);
    }
    if (options->threads == 0 || options->threads > options->queues) {
        options->threads = options->queues;
    }
    return 0;
}

static int parse_target(struct bench *bench, const char *name, struct err **reterr)
{
    for (size_t i = 0; i < countof(targets); i++) {
        if (str_equal(targets[i]->name, name)) {
            bench->target = targets[i];
            return 0;
        }
    }
    return err_set(reterr, EINVAL, "type '%s' is unknown: vhost-user-scsi or vhost-user-blk", name);
}

static int collect_words(struct bench *bench, int argc, char **argv, json_t *object,
                         struct err **reterr)
{
    int i = 1, words = 0;

    while (i < argc) {
        int used = 1, rc = 0;

        if (str_has_prefix(argv[i], "--")) {
            rc = used = add_option(object, argc - i, argv + i, reterr);
        } else if (words++ == 0) {
            rc = parse_target(bench, argv[i], reterr);
        } else if (words == 2) {
            bench->path = argv[i];
        } else {
            rc = err_set(reterr, EINVAL, "'%s': one socket is enough", argv[i]);
        }
        if (rc < 0) {
            return rc;
        }
        i += used;
    }
    if (words < 2) {
        return err_set(reterr, EINVAL, "%s is missing",
                       words == 0 ? "TYPE (vhost-user-scsi or vhost-user-blk)" : "SOCKET");
    }
    return 0;
}

static int parse_arguments(struct bench *bench, int argc, char **argv, struct err **reterr)
{
    json_t *object = json_object();
    int rc = collect_words(bench, argc, argv, object, reterr);

    if (rc == 0) {
        rc = opt_parse(&bench_options_table, object, OPT_FROM_TEXT, &bench->options, reterr);
    }
    json_decref(object);
    return rc < 0 ? rc : check_options(bench, &bench->options, reterr);
}

/* ---- the run ------------------------------------------------------------------------------- */

/* What the options want must be possible with what was found. */
static int check_device(struct bench *bench, struct err **reterr)
{
    enum { VERIFY_BYTES = 64 << 20 };
    struct bench_options *options = &bench->options;
    bool writes = options->verify || (options->rw != BENCH_RANDREAD && options->rw != BENCH_READ);
    uint64_t left;

    if (options->block_bytes % bench->unit_bytes != 0) {
        return err_set(reterr, EINVAL, "--block-size %" PRIu64 ": the device has blocks of %"
                       PRIu32, options->block_bytes, bench->unit_bytes);
    }
    if (writes && bench->is_read_only) {
        return err_set(reterr, EROFS, "the device is read-only: no writes, no --verify");
    }
    if (options->range_offset % bench->unit_bytes != 0 ||
        !range_is_inside(options->range_offset, options->range_bytes, bench->capacity_bytes)) {
        return err_set(reterr, EINVAL, "--range-offset %" PRIu64 " and --range %" PRIu64
                       " do not fit the device of %" PRIu64 " bytes", options->range_offset,
                       options->range_bytes, bench->capacity_bytes);
    }
    left = bench->capacity_bytes - options->range_offset;
    bench->range_bytes = options->has_range ? options->range_bytes
                         : options->verify  ? min_of(left, (uint64_t)VERIFY_BYTES)
                                            : left;
    if (bench->range_bytes / options->block_bytes < options->queues) {
        return err_set(reterr, EINVAL, "the range of %" PRIu64 " bytes has not one block of %"
                       PRIu64 " for each queue", bench->range_bytes, options->block_bytes);
    }
    return 0;
}

BLOCKING
static int run(struct bench *bench, struct err **reterr)
{
    int rc = bench_session_open(bench, reterr);

    if (rc == 0) {
        rc = bench->target->discover(bench, reterr);
    }
    if (rc == 0) {
        rc = check_device(bench, reterr);
    }
    if (rc == 0) {
        bench->peer_pid = bench->options.cpu_of != 0 ? (int)bench->options.cpu_of
                                                     : vu_front_peer_pid(bench->front);
        rc = bench_run(bench, reterr);
    }
    if (rc == 0) {
        bench_report(bench);
    }
    bench_session_close(bench);
    return rc;
}

static bool wants_help(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (str_equal(argv[i], "--help") || str_equal(argv[i], "-h") ||
            str_equal(argv[i], "help")) {
            return true;
        }
    }
    return false;
}

int cli_bench_main(int argc, char **argv)
{
    struct bench bench = {.memory_fd = -1, .signal_fd = -1, .error_lock = OS_MUTEX_INIT};
    AUTO(err) struct err *error = NULL;
    int rc;

    if (wants_help(argc, argv)) {
        print_usage(stdout);
        return BENCH_OK;
    }
    if (parse_arguments(&bench, argc, argv, &error) < 0) {
        fprintf(stderr, "caisson bench: %s\n(caisson bench --help lists the options)\n",
                error->text);
        opt_free_values(&bench_options_table, &bench.options);
        return BENCH_USAGE;
    }
    rc = run(&bench, &error);
    if (rc < 0) {
        fprintf(stderr, "caisson bench: %s\n", error->text);
    }
    opt_free_values(&bench_options_table, &bench.options);
    return rc == 0 ? BENCH_OK : rc == -ENOTCONN && bench.peer_pid == 0 ? BENCH_NO_CONNECTION
                                                                       : BENCH_FAILED;
}

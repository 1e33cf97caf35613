/*
 * bench_int.h -- the parts of `caisson bench`.
 *
 *   bench.c          the command: options in, report out
 *   bench_session.c  connection, shared memory, rings; one command at a time for discovery
 *   bench_scsi.c     vhost-user-scsi: finding a LUN, READ and WRITE
 *   bench_blk.c      vhost-user-blk: config space, IN and OUT
 *   bench_run.c      the load: threads, which block next, when to stop
 *   bench_verify.c   what a block must hold
 *   bench_stats.c    histograms
 *   bench_report.c   for people and as JSON
 *
 * A queue belongs to one worker thread at a time; the main thread touches it only while no worker
 * runs.
 */
#pragma once
#include "base/err.h"
#include "base/opt.h"
#include "os/thread.h"
#include "virtio/ring_driver.h"
#include "virtio/vu_front.h"

/* ---- options ------------------------------------------------------------------------------- */

enum bench_rw { BENCH_RANDREAD, BENCH_RANDWRITE, BENCH_RANDRW, BENCH_READ, BENCH_WRITE };
extern const char *const bench_rw_names[];

struct bench_options {
    uint32_t queues, depth, threads, queue_size;
    uint64_t block_bytes, range_bytes, range_offset;
    int rw;
    uint32_t read_percent;
    bool verify, poll, json, event_idx, indirect;
    char *seconds, *warm_up, *timeout;
    uint64_t run_ns, warm_up_ns, timeout_ns; /* parsed from the three above */
    uint64_t requests;
    bool has_requests, has_range, has_seconds;
    char *lun;
    int target, lun_number; /* parsed from lun; -1: the first there is */
    uint32_t cpu_of;
    uint64_t seed;
};
extern const struct opt_table bench_options_table;

/* ---- histogram ----------------------------------------------------------------------------- */

/* Logarithmic buckets of latencies in ns: 32 for each power of two, so within 3.2 %. */
enum {
    BENCH_HIST_SUB_BITS = 5,
    BENCH_HIST_BUCKETS = (64 - BENCH_HIST_SUB_BITS + 1) << BENCH_HIST_SUB_BITS,
};
struct bench_hist {
    uint64_t count, sum_ns, max_ns;
    uint64_t buckets[BENCH_HIST_BUCKETS];
};
CTX_ANY_BEGIN
void bench_hist_add(struct bench_hist *hist, uint64_t ns);
void bench_hist_merge(struct bench_hist *to, const struct bench_hist *from);
/* The latency that @per_mille of the requests did not exceed: the upper end of its bucket. */
uint64_t bench_hist_percentile(const struct bench_hist *hist, unsigned per_mille);
double bench_hist_mean(const struct bench_hist *hist);

/* ---- content of blocks --------------------------------------------------------------------- */

/* Fill @data, the block at @offset of the disk, as written the @generation-th time. */
void bench_stamp(uint8_t *data, uint64_t bytes, uint64_t offset, uint64_t seed,
                 uint32_t generation);
/* Spoil what @data holds, so that a read which moves nothing is found out. */
void bench_unstamp(uint8_t *data, uint64_t bytes);
/* 0, or -EIO and a text that says what was found at the first wrong place. */
int bench_check(const uint8_t *data, uint64_t bytes, uint64_t offset, uint64_t seed,
                uint32_t generation, struct err **reterr);
CTX_ANY_END

/* ---- session ------------------------------------------------------------------------------- */

enum {
    BENCH_QUEUES_MAX = 64,
    BENCH_DEPTH_MAX = 4096,
    BENCH_SLOT_DESCS = 3, /* of a chain: header, data, answer */
    BENCH_SYNC_BYTES = 4096, /* data of one discovery command */
};

struct bench;
struct bench_queue;

/* One request's place in shared memory. */
struct bench_slot {
    uint8_t *out, *in, *data; /* header for the device, its answer, the block */
    uint64_t out_guest, in_guest, data_guest;
    struct ring_desc *chain; /* in the ring or in an indirect table */
    uint16_t chain_first;    /* index of chain[0] in its table */
    uint16_t head;
    struct ring_desc *head_desc; /* names the indirect table; NULL: the chain is in the ring */
    uint64_t table_guest;

    /* Of the request under way. */
    bool is_write;
    uint32_t generation;
    uint64_t block;
    uint64_t submitted_ns;
};

struct bench_queue {
    struct bench *bench;
    unsigned index; /* among the request queues */
    struct ring_driver driver;
    int kick_fd;
    int call_fd; /* its worker's */
    struct bench_slot *slots;
    unsigned *free_slots, free_count;

    /* Which block next. */
    uint64_t random;
    uint64_t first_block, block_count; /* verify: this queue's own part */
    uint64_t next_block;
    uint32_t *generations; /* verify: per block of its part; 0: content unknown */
    uint8_t *busy;

    /* The phase's results. */
    uint64_t started;        /* requests, for --requests */
    uint64_t verified;
    uint64_t finished_ns;    /* the last completion that counts */
    struct bench_hist hist;
};

/* What distinguishes SCSI from blk. */
struct bench_target {
    const char *name; /* "vhost-user-scsi" */
    uint64_t features;
    unsigned other_queues;   /* before the request queues */
    uint32_t in_bytes;       /* of the answer beside the data */
    BLOCKING_SLOT int (*discover)(struct bench *bench, struct err **reterr);
    /* Header and chain of a read or write of the block at @offset. */
    ANY_SLOT void (*build)(struct bench *bench, struct bench_slot *slot, uint64_t offset,
                           uint32_t bytes);
    /* 0, or -EIO and a text: what the device answered. */
    ANY_SLOT int (*result)(const struct bench_slot *slot, struct err **reterr);
};
extern const struct bench_target bench_scsi, bench_blk;

struct bench {
    struct bench_options options;
    const struct bench_target *target;
    const char *path;

    struct vu_front *front;
    uint64_t features; /* agreed */
    int memory_fd;
    uint8_t *memory;
    uint64_t memory_bytes;
    uint16_t ring_size;
    struct bench_queue *queues;
    struct ring_driver other[2]; /* SCSI: control and event */
    int other_fds[2];

    /* By discovery. */
    uint64_t capacity_bytes;
    uint32_t unit_bytes; /* the device's logical block */
    bool is_read_only;
    uint8_t lun_field[8];
    char *description;

    uint64_t range_bytes; /* a whole number of blocks */

    /* Of the run. */
    uint32_t stop; /* atomic: bench_run.c's */
    int signal_fd; /* SIGINT or SIGTERM: stop early and report */
    uint64_t measure_from_ns;
    uint64_t measure_to_ns; /* atomic: a signal moves it forward */
    struct os_mutex error_lock;
    struct err *error; /* the first; under error_lock */
    uint64_t cpu_own_ns, cpu_peer_ns; /* over the measured time */
    int peer_pid;          /* 0: unknown */
    uint64_t elapsed_ns;
    uint64_t verified;
    struct bench_hist hist;
};

/* Connect, share memory, start rings. -ENOTCONN: no connection. */
BLOCKING
int bench_session_open(struct bench *bench, struct err **reterr);
BLOCKING
void bench_session_close(struct bench *bench);
/* Run the chain of slot 0 of queue 0, built before, alone; -ETIMEDOUT. */
BLOCKING
int bench_session_do(struct bench *bench, uint32_t *ret_written, struct err **reterr);

/* Put up to three buffers into the chain: @out bytes of header, data (before or after the answer),
 * the answer. Data of 0 bytes is left out. */
enum bench_data { BENCH_DATA_OUT, BENCH_DATA_IN_BEFORE, BENCH_DATA_IN_AFTER };
ANY_THREAD
void bench_slot_build(struct bench_slot *slot, uint32_t out_bytes, uint32_t in_bytes,
                      enum bench_data data, uint32_t data_bytes);

/* ---- run and report ------------------------------------------------------------------------ */

/* Fill, load, read back: what the options ask for. Results are in @bench. */
BLOCKING
int bench_run(struct bench *bench, struct err **reterr);
BLOCKING
void bench_report(const struct bench *bench);

/*
 * bench_run.c -- the load itself.
 *
 * A run has up to three phases: fill (verify, when something will be read), load, read back
 * (verify, when something was written). In each, every worker thread serves its queues until they
 * are done.
 *
 * (L1) A slot is either free or with the device; at most `depth` of a queue are with it.
 * (L2) With --verify a queue reads and writes only its own part of the range, and a block of it has
 *      at most one request under way: so what a read must find is known.
 * (L3) Latency is from just before the publish to when the worker sees the completion.
 * (L4) Only completions between measure_from and measure_to count.
 */
#include "base/checked.h"
#include "base/mem.h"
#include "cli/bench_int.h"
#include "os/file.h"
#include "os/process.h"
#include "os/socket.h"
#include "os/time.h"
#include "sync/atomic.h"
#include <errno.h>
#include <inttypes.h>

enum { LOOK_AROUND_SPINS = 256, SLEEP_NS = 100000000, DONE_LOOK_NS = 2000000 };

enum phase { PHASE_FILL, PHASE_LOAD, PHASE_READ_BACK };

struct worker {
    struct bench *bench;
    struct os_thread *thread;
    enum phase phase;
    unsigned first_queue; /* then every `threads`-th */
    uint32_t is_done;     /* atomic */
    bool has_progressed;  /* since last_progress_ns */
    uint64_t last_progress_ns;
};

enum { RUN_ON = 0, RUN_OUT = 1 /* take what comes back, submit nothing */, RUN_AWAY = 2 };

static bool is_sequential(const struct bench *bench)
{
    return bench->options.rw == BENCH_READ || bench->options.rw == BENCH_WRITE;
}

static bool does_read(const struct bench *bench)
{
    return bench->options.rw == BENCH_RANDREAD || bench->options.rw == BENCH_RANDRW ||
           bench->options.rw == BENCH_READ;
}

static bool does_write(const struct bench *bench)
{
    return bench->options.rw != BENCH_RANDREAD && bench->options.rw != BENCH_READ;
}

static void fail(struct bench *bench, struct err *error)
{
    os_mutex_lock(&bench->error_lock);
    err_propagate(&bench->error, error);
    os_mutex_unlock(&bench->error_lock);
    at_store(&bench->stop, RUN_AWAY);
}

/* ---- which block next ---------------------------------------------------------------------- */

static uint64_t next_random(struct bench_queue *queue)
{
    uint64_t x = queue->random; /* xorshift64* */

    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    queue->random = x;
    return x * UINT64_C(0x2545f4914f6cdd1d);
}

static uint64_t random_below(struct bench_queue *queue, uint64_t limit)
{
    return (uint64_t)((unsigned __int128)next_random(queue) * limit >> 64);
}

/* A block of the queue's part that is not busy (L2), at or after @block. There is one: parts are
 * larger than the depth. */
static uint64_t skip_busy(const struct bench_queue *queue, uint64_t block)
{
    while (queue->busy != NULL && queue->busy[block]) {
        block = block + 1 < queue->block_count ? block + 1 : 0;
    }
    return block;
}

static bool choose_in_order(struct bench_queue *queue, uint64_t *ret_block)
{
    if (queue->next_block >= queue->block_count) {
        return false;
    }
    *ret_block = queue->next_block++;
    return true;
}

static uint64_t choose_for_load(struct bench_queue *queue)
{
    uint64_t block;

    if (is_sequential(queue->bench)) {
        block = queue->next_block;
        queue->next_block = block + 1 < queue->block_count ? block + 1 : 0;
    } else {
        block = random_below(queue, queue->block_count);
    }
    return skip_busy(queue, block);
}

static bool choose_write(struct bench_queue *queue)
{
    const struct bench_options *options = &queue->bench->options;

    if (options->rw != BENCH_RANDRW) {
        return does_write(queue->bench);
    }
    return random_below(queue, 100) >= options->read_percent;
}

/* False: this queue has nothing more to submit in this phase. */
static bool choose(struct bench_queue *queue, enum phase phase, struct bench_slot *slot)
{
    const struct bench_options *options = &queue->bench->options;

    if (phase != PHASE_LOAD) {
        slot->is_write = phase == PHASE_FILL;
        do { /* what was never written has unknown content */
            if (!choose_in_order(queue, &slot->block)) {
                return false;
            }
        } while (phase == PHASE_READ_BACK && queue->generations[slot->block] == 0);
        return true;
    }
    if (options->has_requests) {
        uint64_t share = options->requests / options->queues +
                         (queue->index < options->requests % options->queues);

        if (queue->started >= share) {
            return false;
        }
    }
    queue->started++;
    slot->is_write = choose_write(queue);
    slot->block = choose_for_load(queue);
    return true;
}

/* ---- submit -------------------------------------------------------------------------------- */

static uint64_t slot_offset(const struct bench_queue *queue, const struct bench_slot *slot)
{
    const struct bench_options *options = &queue->bench->options;

    return options->range_offset + (queue->first_block + slot->block) * options->block_bytes;
}

static void submit(struct bench_queue *queue, struct bench_slot *slot)
{
    struct bench *bench = queue->bench;
    uint64_t offset = slot_offset(queue, slot), bytes = bench->options.block_bytes;

    if (queue->generations != NULL) {
        queue->busy[slot->block] = 1;
        slot->generation = queue->generations[slot->block];
        if (slot->is_write) {
            slot->generation++;
            bench_stamp(slot->data, bytes, offset, bench->options.seed, slot->generation);
        } else {
            bench_unstamp(slot->data, bytes);
        }
    }
    bench->target->build(bench, slot, offset, (uint32_t)bytes);
    ring_driver_offer(&queue->driver, slot->head);
}

/* Returns the number submitted. */
static unsigned fill_queue(struct bench_queue *queue, enum phase phase)
{
    struct bench *bench = queue->bench;
    unsigned count = 0, first_free = queue->free_count;
    uint64_t now;

    while (queue->free_count > 0 && !at_load_relaxed(&bench->stop)) { /* a hint; joined later */
        struct bench_slot *slot = &queue->slots[queue->free_slots[queue->free_count - 1]];

        if (!choose(queue, phase, slot)) {
            break;
        }
        queue->free_count--;
        submit(queue, slot);
        count++;
    }
    if (count == 0) {
        return 0;
    }
    now = os_now_monotonic_ns();
    for (unsigned i = queue->free_count; i < first_free; i++) {
        queue->slots[queue->free_slots[i]].submitted_ns = now;
    }
    if (ring_driver_publish(&queue->driver)) {
        os_eventfd_signal(queue->kick_fd);
    }
    return count;
}

/* ---- complete ------------------------------------------------------------------------------ */

static int check_slot(struct bench_queue *queue, struct bench_slot *slot, struct err **reterr)
{
    struct bench *bench = queue->bench;
    int rc = bench->target->result(slot, reterr);

    if (rc < 0) {
        err_prepend(reterr, "queue %u, offset %" PRIu64 ": ", queue->index,
                    slot_offset(queue, slot));
        return rc;
    }
    if (queue->generations == NULL) {
        return 0;
    }
    queue->busy[slot->block] = 0;
    if (slot->is_write) {
        queue->generations[slot->block] = slot->generation;
    } else if (slot->generation > 0) {
        queue->verified++;
        return bench_check(slot->data, bench->options.block_bytes, slot_offset(queue, slot),
                           bench->options.seed, slot->generation, reterr);
    }
    return 0;
}

static void count_slot(struct bench_queue *queue, const struct bench_slot *slot, uint64_t now)
{
    const struct bench *bench = queue->bench;

    /* (L4); the end may be moved forward while we run, and sooner or later we see it */
    if (now >= bench->measure_from_ns && now < at_load_relaxed(&bench->measure_to_ns)) {
        bench_hist_add(&queue->hist, now - slot->submitted_ns);
        queue->finished_ns = now;
    }
}

static int complete(struct bench_queue *queue, int head, uint64_t now, struct err **reterr)
{
    struct bench *bench = queue->bench;
    bool indirect = queue->slots[0].head_desc != NULL;
    unsigned i = indirect ? (unsigned)head : (unsigned)head / BENCH_SLOT_DESCS;
    struct bench_slot *slot;

    if (i >= bench->options.depth || queue->slots[i].head != head ||
        queue->slots[i].submitted_ns == 0) {
        return err_set(reterr, EPROTO, "queue %u: the back end returned descriptor %d, which is "
                       "not with it", queue->index, head);
    }
    slot = &queue->slots[i];
    count_slot(queue, slot, now);
    slot->submitted_ns = 0;
    queue->free_slots[queue->free_count++] = i;
    return check_slot(queue, slot, reterr);
}

/* Returns how many came back, or an error. */
static int reap(struct bench_queue *queue, struct err **reterr)
{
    uint64_t now = 0;
    int count = 0;

    while (count < (int)queue->bench->options.depth) {
        uint32_t written;
        int rc, head = ring_driver_take(&queue->driver, &written);

        if (head == -EAGAIN) {
            break;
        }
        if (head < 0) {
            return err_set(reterr, EPROTO, "queue %u: the back end returned a descriptor that does "
                           "not exist", queue->index);
        }
        now = now != 0 ? now : os_now_monotonic_ns();
        rc = complete(queue, head, now, reterr);
        if (rc < 0) {
            return rc;
        }
        count++;
    }
    return count;
}

/* ---- workers ------------------------------------------------------------------------------- */

static bool queue_is_idle(const struct bench_queue *queue)
{
    return queue->free_count == queue->bench->options.depth;
}

/* One round over the worker's queues. How many completions; *@ret_busy: something is still out. */
static int round_of(struct worker *worker, bool *ret_busy, struct err **reterr)
{
    struct bench *bench = worker->bench;
    int count = 0;

    *ret_busy = false;
    for (unsigned i = worker->first_queue; i < bench->options.queues; i += bench->options.threads) {
        struct bench_queue *queue = &bench->queues[i];
        int rc = reap(queue, reterr);

        if (rc < 0) {
            return rc;
        }
        count += rc + (int)fill_queue(queue, worker->phase);
        *ret_busy |= !queue_is_idle(queue);
    }
    return count;
}

/* Ask every queue to call. True: something is there already. */
static bool want_calls(struct worker *worker, bool wanted)
{
    struct bench *bench = worker->bench;
    bool there = false;

    for (unsigned i = worker->first_queue; i < bench->options.queues; i += bench->options.threads) {
        there |= ring_driver_want_call(&bench->queues[i].driver, wanted);
    }
    return there;
}

static int check_progress(struct worker *worker, uint64_t now, struct err **reterr)
{
    struct bench *bench = worker->bench;
    unsigned out = 0;

    if (worker->has_progressed) {
        worker->has_progressed = false;
        worker->last_progress_ns = now;
    }
    if (now - worker->last_progress_ns < bench->options.timeout_ns) {
        return 0;
    }
    for (unsigned i = worker->first_queue; i < bench->options.queues; i += bench->options.threads) {
        out += bench->options.depth - bench->queues[i].free_count;
    }
    return err_set(reterr, ETIMEDOUT, "no request was answered for %" PRIu64 " s; %u are with the "
                   "back end", bench->options.timeout_ns / 1000000000, out);
}

BLOCKING
static void wait_for_completion(struct worker *worker)
{
    int call_fd = worker->bench->queues[worker->first_queue].call_fd;

    if (!want_calls(worker, true)) {
        (void)os_fd_wait(call_fd, OS_FD_IN, SLEEP_NS);
    }
    (void)os_eventfd_clear(call_fd);
    (void)want_calls(worker, false);
}

static int look_around(struct worker *worker, uint64_t now, struct err **reterr)
{
    struct bench *bench = worker->bench;
    uint32_t on = RUN_ON;

    if (worker->phase == PHASE_LOAD && now >= at_load_relaxed(&bench->measure_to_ns)) {
        (void)at_cas(&bench->stop, &on, RUN_OUT);
    }
    return check_progress(worker, now, reterr);
}

BLOCKING
static int work(struct worker *worker, struct err **reterr)
{
    struct bench *bench = worker->bench;
    unsigned rounds = 0;
    bool busy = true;

    worker->last_progress_ns = os_now_monotonic_ns();
    (void)want_calls(worker, false);
    for (;;) {
        int count = round_of(worker, &busy, reterr);

        if (count < 0 || (!busy && count == 0)) {
            return count;
        }
        worker->has_progressed |= count > 0;
        if (count == 0 && !bench->options.poll) {
            wait_for_completion(worker);
        }
        if (++rounds % LOOK_AROUND_SPINS == 0 || (count == 0 && !bench->options.poll)) {
            int rc = look_around(worker, os_now_monotonic_ns(), reterr);

            if (rc < 0 || at_load_relaxed(&bench->stop) == RUN_AWAY) { /* a hint; joined later */
                return rc;
            }
        }
        if (count == 0 && bench->options.poll) {
            at_relax();
        }
    }
}

BLOCKING
static void worker_main(void *opaque)
{
    struct worker *worker = opaque;
    struct err *error = NULL;

    if (work(worker, &error) < 0) {
        fail(worker->bench, error);
    }
    at_store(&worker->is_done, 1);
}

/* ---- phases -------------------------------------------------------------------------------- */

struct cpu_sample {
    uint64_t own_ns, peer_ns;
};

static struct cpu_sample sample_cpu(struct bench *bench)
{
    struct cpu_sample sample = {0};

    (void)os_process_cpu_ns(os_pid(), &sample.own_ns);
    if (bench->peer_pid != 0 && os_process_cpu_ns(bench->peer_pid, &sample.peer_ns) < 0) {
        bench->peer_pid = 0; /* gone, or not ours to see */
    }
    return sample;
}

/* The first signal ends the load, and what was measured so far is reported; the second ends all. */
static void end_early(struct bench *bench)
{
    uint32_t on = RUN_ON;

    if (at_cas(&bench->stop, &on, RUN_OUT)) {
        at_store_relaxed(&bench->measure_to_ns, os_now_monotonic_ns()); /* (L4) */
    } else {
        struct err *error = NULL;

        (void)err_set(&error, EINTR, "interrupted");
        fail(bench, error);
    }
}

/* Sleep for a while, but notice signals and the back end leaving. */
BLOCKING
static void watch_for(struct bench *bench, uint64_t ns)
{
    if (bench->signal_fd >= 0 && os_signal_next(bench->signal_fd) > 0) {
        end_early(bench);
        return;
    }
    if (os_fd_wait(vu_front_fd(bench->front), OS_FD_IN, ns) > 0) {
        struct err *error = NULL;

        (void)err_set(&error, ENOTCONN, "the back end has closed the connection");
        fail(bench, error);
    }
}

BLOCKING
static void watch_until(struct bench *bench, uint64_t until_ns)
{
    uint64_t now;

    while (at_load(&bench->stop) == RUN_ON && (now = os_now_monotonic_ns()) < until_ns) {
        watch_for(bench, min_of(until_ns - now, (uint64_t)SLEEP_NS));
    }
}

BLOCKING
static void watch_until_done(struct bench *bench, struct worker *workers)
{
    for (unsigned i = 0; i < bench->options.threads; i++) {
        while (!at_load(&workers[i].is_done) && at_load(&bench->stop) != RUN_AWAY) {
            watch_for(bench, DONE_LOOK_NS);
        }
    }
}

BLOCKING
static void measure(struct bench *bench)
{
    struct cpu_sample before, after;

    watch_until(bench, bench->measure_from_ns);
    before = sample_cpu(bench);
    watch_until(bench, bench->measure_to_ns);
    after = sample_cpu(bench);
    bench->cpu_own_ns = after.own_ns - before.own_ns;
    bench->cpu_peer_ns = after.peer_ns - before.peer_ns;
}

BLOCKING
static int run_phase(struct bench *bench, enum phase phase, struct err **reterr)
{
    unsigned threads = bench->options.threads;
    struct worker *workers = mem_alloc_array(threads, sizeof(*workers));
    struct cpu_sample before = sample_cpu(bench), after;

    at_store(&bench->stop, RUN_ON);
    for (unsigned i = 0; i < bench->options.queues; i++) {
        bench->queues[i].next_block = 0;
    }
    for (unsigned i = 0; i < threads; i++) {
        workers[i].bench = bench;
        workers[i].phase = phase;
        workers[i].first_queue = i;
        workers[i].thread = os_thread_start("bench", worker_main, &workers[i]);
    }
    if (phase == PHASE_LOAD && !bench->options.has_requests) {
        measure(bench);
    }
    watch_until_done(bench, workers);
    for (unsigned i = 0; i < threads; i++) {
        os_thread_join(workers[i].thread);
    }
    mem_free(workers);
    if (phase == PHASE_LOAD && bench->options.has_requests) {
        after = sample_cpu(bench);
        bench->cpu_own_ns = after.own_ns - before.own_ns;
        bench->cpu_peer_ns = after.peer_ns - before.peer_ns;
    }
    if (bench->error != NULL) {
        err_propagate(reterr, take(&bench->error));
        return -EIO;
    }
    return 0;
}

static void set_times(struct bench *bench)
{
    uint64_t now = os_now_monotonic_ns();

    if (bench->options.has_requests) { /* every request counts */
        bench->measure_from_ns = now;
        bench->measure_to_ns = UINT64_MAX;
    } else {
        bench->measure_from_ns = now + bench->options.warm_up_ns;
        bench->measure_to_ns = bench->measure_from_ns + bench->options.run_ns;
    }
}

static void gather(struct bench *bench)
{
    uint64_t last_ns = bench->measure_from_ns + 1;

    for (unsigned i = 0; i < bench->options.queues; i++) {
        struct bench_queue *queue = &bench->queues[i];

        bench_hist_merge(&bench->hist, &queue->hist);
        last_ns = max_of(last_ns, queue->finished_ns);
    }
    if (bench->options.has_requests) {
        bench->elapsed_ns = last_ns - bench->measure_from_ns;
    } else {
        bench->elapsed_ns = max_of(bench->measure_to_ns, bench->measure_from_ns + 1) -
                            bench->measure_from_ns;
    }
}

static int set_parts(struct bench *bench, struct err **reterr)
{
    const struct bench_options *options = &bench->options;
    uint64_t blocks = bench->range_bytes / options->block_bytes, part = blocks / options->queues;

    if (options->verify && part <= options->depth) {
        return err_set(reterr, EINVAL, "--verify: the range has %" PRIu64 " blocks, more than "
                       "queues x depth (%" PRIu64 ") are needed", blocks,
                       (uint64_t)options->queues * options->depth);
    }
    for (unsigned i = 0; i < options->queues; i++) {
        struct bench_queue *queue = &bench->queues[i];
        bool own = options->verify || is_sequential(bench);

        queue->first_block = own ? i * part : 0;
        queue->block_count = own ? part : blocks;
        if (options->verify) {
            queue->generations = mem_try_alloc(part * sizeof(*queue->generations));
            queue->busy = mem_try_alloc(part);
            if (queue->generations == NULL || queue->busy == NULL) {
                return err_set(reterr, ENOMEM, "--verify: no memory for the record of %" PRIu64
                               " blocks; use --range", blocks);
            }
        }
    }
    return 0;
}

BLOCKING
static int run_load(struct bench *bench, struct err **reterr)
{
    static const int early[] = {OS_SIGINT, OS_SIGTERM};
    int rc;

    bench->signal_fd = os_signal_fd(early, countof(early));
    set_times(bench);
    rc = run_phase(bench, PHASE_LOAD, reterr);
    gather(bench);
    if (bench->signal_fd >= 0) {
        (void)os_close_now(bench->signal_fd);
        bench->signal_fd = -1;
    }
    os_signal_unblock_all(); /* from here on they end the program */
    return rc;
}

int bench_run(struct bench *bench, struct err **reterr)
{
    bool verify = bench->options.verify;
    int rc = set_parts(bench, reterr);

    if (rc == 0 && verify && does_read(bench)) {
        rc = run_phase(bench, PHASE_FILL, reterr);
    }
    if (rc == 0) {
        rc = run_load(bench, reterr);
    }
    if (rc == 0 && verify && does_write(bench)) {
        rc = run_phase(bench, PHASE_READ_BACK, reterr);
    }
    for (unsigned i = 0; i < bench->options.queues; i++) {
        bench->verified += bench->queues[i].verified;
    }
    return rc;
}

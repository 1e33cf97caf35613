/*
 * guest.h -- a guest in a simulated run: the driver of a vhost-user-scsi adapter, as one task.
 *
 * It writes and reads one disk and knows what each block must hold; it asks other addresses all
 * sorts of things meanwhile, resets and aborts, stops its rings and starts them again, dies with
 * requests under way and comes back. It panics when a block is wrong, an answer is half there, or a
 * request gets none (the run is then stuck, and tells).
 */
#pragma once
#include "base/ctx.h"
#include "base/macros.h"

CTX_ANY_BEGIN

struct guest_config {
    const char *path;      /* of the adapter's socket */
    unsigned queues;       /* request queues */
    unsigned lun;          /* of the disk that stays; target 0 */
    uint64_t blocks;       /* of 512 bytes, that it uses */
    unsigned requests;     /* to that disk, before it is content */
    unsigned restarts;     /* of its connection meanwhile; every other one without a goodbye */
    uint64_t away_ns;      /* before it comes back; 0: at once */
    bool expects_errors;   /* faults are injected: an I/O may fail, cleanly */
};

struct guest_report {
    unsigned reads, writes, verified, others, unit_attentions, aborted, failed, events;
};

/* Runs in the calling task. */
struct guest_report guest_run(const struct guest_config *config);

CTX_ANY_END

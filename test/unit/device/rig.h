/*
 * rig.h -- a whole daemon below its command line, and a guest that drives it, in one program.
 *
 * The main loop runs on the program's first thread; the tests run on a second one, which plays the
 * operator (rig_call: a coroutine on the main loop, waited for) and the guest (a front end of
 * vhost-user with memory and rings of its own). A node driver "hold" lets a test decide when
 * requests end.
 */
#pragma once
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/err.h"
#include "base/mem.h"
#include "device/hba_int.h"
#include "virtio/ring_driver.h"
#include "virtio/vu_front.h"

/* ---- the program ----------------------------------------------------------------------------- */

/* main() of a test: @tests runs the groups and returns the number of failures. */
int rig_main(int (*tests)(void));

/* An assert for any thread and for coroutines: ends the program. */
#define expect(condition)                                                                          \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            panic("%s:%d: expected %s", __FILE__, __LINE__, #condition);                           \
        }                                                                                          \
    } while (0)

/* True as soon as @condition is; false after @seconds. Looks every millisecond. */
#define rig_wait_for(condition, seconds)                                                           \
    ({                                                                                             \
        bool met_ = (condition);                                                                   \
        for (int left_ = (seconds)*1000; !met_ && left_ > 0; left_--) {                            \
            rig_sleep_ms(1);                                                                       \
            met_ = (condition);                                                                    \
        }                                                                                          \
        met_;                                                                                      \
    })
void rig_sleep_ms(unsigned ms);

/* ---- the operator ---------------------------------------------------------------------------- */

/* Run @fn in a coroutine of the main loop and wait until it has returned. */
void rig_call(co_fn *fn, void *opaque);

/* Each takes JSON with ' for ". 0, or -errno; the text of the error is in rig_error. */
extern char rig_error[512];
int rig_blockdev_add(const char *json);
int rig_blockdev_del(const char *name);
int rig_device_add(const char *json);
int rig_device_del(const char *id);
int rig_export_add(const char *json);
int rig_export_del(const char *id, bool hard);
void rig_iothread_add(const char *id);
/* What a query returns, as text: valid until the next call. */
const char *rig_query_devices(void);
const char *rig_query_exports(void);
const char *rig_query_waits(void);

/* How many events of this name (and with this id or device) have come. */
unsigned rig_events(const char *name, const char *id);
/* All log lines since the last rig_log_clear(). */
const char *rig_log(void);
void rig_log_clear(void);

/* ---- the driver "hold": options of blockdev-add, and when its requests end ------------------- */

void rig_hold(bool hold);       /* requests that come from now on wait */
unsigned rig_held(void);        /* that wait */
/* Where the n-th request since the last rig_hold() began. */
uint64_t rig_held_offset(unsigned index);

/* ---- the guest ------------------------------------------------------------------------------- */

enum {
    GUEST_RINGS_MAX = 8,
    GUEST_RING_SIZE = 64,
    GUEST_MEMORY_BYTES = 4 << 20,
    GUEST_SLOT_BYTES = 16 << 10, /* of each chain: header, response, data */
};
#define GUEST_ADDRESS UINT64_C(0x40000000)

struct guest {
    struct vu_front *front;
    int memfd;
    uint8_t *memory;
    struct ring_driver rings[GUEST_RINGS_MAX];
    int kick[GUEST_RINGS_MAX], call[GUEST_RINGS_MAX];
    uint64_t features;
    bool polls; /* rings are started without a kick descriptor */
    bool used[GUEST_RINGS_MAX][GUEST_RING_SIZE];    /* chains that are with the device */
    bool done[GUEST_RINGS_MAX][GUEST_RING_SIZE];    /* came back and not looked at */
    uint32_t written[GUEST_RINGS_MAX][GUEST_RING_SIZE];
};

/* Connect, share memory, negotiate everything offered. */
struct guest *guest_new(const char *path);
void guest_free(struct guest *guest); /* hangs up */
void guest_start(struct guest *guest, unsigned ring);
/* All of them: control, event and @request_queues. */
void guest_start_all(struct guest *guest, unsigned request_queues);

/* Offer a SCSI command; the chain's number. Buffers: guest_response(), guest_data(). */
unsigned guest_submit(struct guest *guest, unsigned ring, uint8_t target, uint16_t lun,
                      uint64_t tag, const uint8_t *cdb, size_t cdb_bytes, uint32_t out_bytes,
                      uint32_t in_bytes);
/* A chain of plain bytes: @out_bytes of @out readable, @in_bytes writable. */
unsigned guest_submit_raw(struct guest *guest, unsigned ring, const void *out, uint32_t out_bytes,
                          uint32_t in_bytes);
/* Has it come back? Waits up to @ms. */
bool guest_wait(struct guest *guest, unsigned ring, unsigned chain, unsigned ms);
/* The writable part of a chain that has come back, and how much of it was written. */
const uint8_t *guest_in(const struct guest *guest, unsigned ring, unsigned chain);
uint32_t guest_written(const struct guest *guest, unsigned ring, unsigned chain);

/* Submit and wait; the response's fields. */
struct guest_answer {
    uint8_t response, status;
    uint32_t sense_bytes, residual;
    uint8_t sense[96];
    const uint8_t *data;
};
struct guest_answer guest_answer_of(const struct guest *guest, unsigned ring, unsigned chain);
struct guest_answer guest_command(struct guest *guest, unsigned ring, uint8_t target, uint16_t lun,
                                  const uint8_t *cdb, size_t cdb_bytes, uint32_t in_bytes);
/* A task management function is offered; the chain's number. Its answer: guest_in()[0]. */
unsigned guest_tmf(struct guest *guest, uint32_t subtype, uint8_t target, uint16_t lun,
                   uint64_t tag);
#define CDB(...) ((const uint8_t[]){__VA_ARGS__}), sizeof((const uint8_t[]){__VA_ARGS__})
#define TEST_UNIT_READY CDB(0, 0, 0, 0, 0, 0)
#define READ_10(lba, blocks) CDB(0x28, 0, 0, 0, 0, (uint8_t)(lba), 0, 0, (uint8_t)(blocks), 0)

/* Test unit ready until no unit attention is left. */
void guest_settle(struct guest *guest, uint8_t target, uint16_t lun);

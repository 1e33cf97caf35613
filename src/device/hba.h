/*
 * hba.h -- the virtio-scsi host adapter: queues with homes, requests, LUNs plugged at run time.
 *
 * (H1) A request belongs to its virtqueue, a virtqueue to its home loop; each queue has one list of
 *      its requests and nobody else touches it. The home changes only in a BH on the old home.
 * (H2) Lookup, raise, gate check and park-or-dispatch are one stretch without a yield at home.
 * (H3) A request for all LUNs of a kind (purge, abort) is one BH per queue, on its home.
 * (H4) What a gated LUN would get is parked per queue in order, later ones behind it; beyond a
 *      quarter of the ring: TASK SET FULL. Parked requests hold no token.
 */
#pragma once
#include "base/event.h"
#include "base/opt.h"
#include "loop/iothread.h"
#include "scsi/target.h"
#include "virtio/device.h"

struct hba;

struct hba_config {
    const char *id;
    unsigned request_queues;      /* 1 … 64 */
    struct loop *const *homes;    /* one per queue: control, event, then requests */
};
MAIN_LOOP
struct hba *hba_new(const struct hba_config *config, const struct virtio_transport_ops *ops,
                    void *transport);
/* Queues stopped, no LUN left. Freed after a grace period. */
MAIN_LOOP CO_FN
void hba_co_free(struct hba *hba);
extern const struct virtio_device_ops hba_virtio_ops; /* its device pointer is the struct hba */

/* From here on it is not found, so that no device can be added; before its devices are deleted. */
MAIN_LOOP
void hba_close(struct hba *hba);
MAIN_LOOP
struct hba *hba_find(const char *id); /* "hba0"; buses are named "hba0.0" */
MAIN_LOOP
struct hba *hba_only(void); /* NULL: there is none, or more than one */
MAIN_LOOP
const char *hba_id(const struct hba *hba);
MAIN_LOOP
struct scsi_table *hba_table(struct hba *hba);
MAIN_LOOP
void hba_each_device_id(struct hba *hba, void (*each)(const char *id, void *opaque), void *opaque);
MAIN_LOOP
size_t hba_device_count(const struct hba *hba);
/* A line each: "hba0 queue 3: READ(10) lba 8 blocks 1, target 0 lun 2, parked for 2.0 s" */
MAIN_LOOP
void hba_describe_requests(struct hba *hba, json_t *to_array);

/*
 * device.h -- device_add, device_del: plug and unplug of LUNs (`scsi-hd`). The unplug order is in
 * device.c. A device without an id is found by its path, "/machine/peripheral-anon/device[N]".
 */
#pragma once
#include "base/event.h"
#include "base/opt.h"
#include "co/co.h"

/* device_add {"driver": "scsi-hd", "id": …, "bus": "hba0.0", "drive": NODE, …}. The order is
 * create, realize, publish, then tell the guest. */
MAIN_LOOP CO_FN
int device_co_add(json_t *options, unsigned flags, struct err **reterr);
/* Returns when the LUN is unpublished; DEVICE_DELETED follows when id, address and node are free.
 * Unknown: DeviceNotFound. Twice: "Device X is already in the process of unplug". */
MAIN_LOOP CO_FN
int device_co_delete(const char *id, struct err **reterr);
/* Wait until the device is gone, if it is there. */
MAIN_LOOP CO_FN
void device_co_wait_deleted(const char *id);
struct hba;
/* Unplug every device of @hba, an event each, also those that are being plugged; wait until all are
 * gone. */
MAIN_LOOP CO_FN
void device_co_delete_all_of(struct hba *hba);
MAIN_LOOP
json_t *device_describe_scsi(void);              /* query-scsi-devices */
MAIN_LOOP
void device_describe_waits(json_t *to_array);    /* for query-waits: unplugs under way */
MAIN_LOOP
void device_driver_each(void (*each)(const char *name, const struct opt_table *properties,
                                     void *opaque),
                        void *opaque);
extern const struct event_def device_deleted_event; /* DEVICE_DELETED */

/*
 * target.h -- the LUN table of one HBA's bus, and what a target answers by itself.
 *
 * (L1) Published under RCU after a device is whole; unpublished before it is taken apart: a lookup
 *      finds exactly the LUN asked for, whole, or nothing.
 * (L2) REPORT LUNS is one consistent snapshot of one version of the table.
 * (L3) Publish first, then scsi_table_raise_ua(): who was told of a change finds it.
 */
#pragma once
#include "scsi/lu.h"
#include "sync/rcu.h"

enum {
    SCSI_CHANNELS_MAX = 1, /* virtio-scsi has one bus (virtio 1.2, 5.6.6.1) */
    SCSI_TARGETS_MAX = 256,
    SCSI_LUNS_MAX = 16384, /* flat space addressing */
    SCSI_LUN_WELL_KNOWN_REPORT = 0xc101,
};

struct scsi_table; /* of one HBA */

/* An entry. Embedded by the device that is published. */
struct scsi_slot {
    uint8_t target;
    uint16_t lun;
    struct scsi_port *port;
};

MAIN_LOOP
struct scsi_table *scsi_table_new(void);
MAIN_LOOP
void scsi_table_free(struct scsi_table *table); /* empty; after a grace period; NULL is fine */

/* -EBUSY: taken. The slot stays the caller's; it and its port must live for a grace period after
 * unpublish. */
MAIN_LOOP
int scsi_table_publish(struct scsi_table *table, struct scsi_slot *slot);
MAIN_LOOP
void scsi_table_unpublish(struct scsi_table *table, struct scsi_slot *slot);
/* Who is there, on the main loop; NULL: nobody. */
MAIN_LOOP
struct scsi_slot *scsi_table_at(struct scsi_table *table, uint8_t target, uint16_t lun);
/* Lowest free address; -ENOSPC. A given part is >= 0, an open one -1. With the target open it is
 * the lowest target that has the LUN free (LUN 0 before LUN 1), so each disk gets a target of its
 * own. */
MAIN_LOOP
int scsi_table_lowest_free(struct scsi_table *table, int target, int lun, uint8_t *ret_target,
                           uint16_t *ret_lun);
/* Raise @ua at every LUN of @target, or of all targets (-1). */
MAIN_LOOP
void scsi_table_raise_ua(struct scsi_table *table, int target, enum scsi_ua ua);

/* Inside an RCU read section. Exactly this LUN, or NULL. */
ANY_THREAD
struct scsi_slot *scsi_table_find(struct scsi_table *table, uint8_t target, uint16_t lun);
/* Inside an RCU read section: has the target any LUN? */
ANY_THREAD
bool scsi_table_has_target(struct scsi_table *table, uint8_t target);

/* The target's own answer, for a target that has some LUN (one without any answers BAD_TARGET,
 * which is the HBA's): REPORT LUNS at any LUN; INQUIRY and REQUEST SENSE at a LUN without a logical
 * unit and at the well-known one, which also knows TEST UNIT READY. Anything else: LOGICAL UNIT NOT
 * SUPPORTED. Does not yield; inside an RCU read section, so that one snapshot answers. */
ANY_THREAD
void scsi_target_execute(struct scsi_table *table, uint8_t target, uint16_t lun,
                         struct scsi_cmd *cmd);
/* Is @cdb answered by the target even where a logical unit is plugged? (REPORT LUNS) */
ANY_THREAD
bool scsi_target_answers(const uint8_t *cdb);

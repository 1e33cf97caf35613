/*
 * target.c -- the LUN table and the commands that a target answers by itself.
 *
 * A version of the table is an array of entries sorted by target and LUN, with the index at which
 * each target begins; it never changes once it is published. Plug and unplug (main loop) copy it
 * with one entry more or less, publish the copy and free the old version after a grace period.
 * Plugging costs the length of the table; a lookup costs a step where LUNs are numbered 0, 1, 2…,
 * else a few.
 *
 * (L4) A list is counted and filled from one version: the table pointer is read once for both.
 * (L5) REPORT LUNS clears REPORTED LUNS DATA HAS CHANGED before it reads the version it reports: a
 *      change that is published later raises the attention again, after (L3), and none is lost.
 */
#include "scsi/target.h"
#include "scsi/lu_int.h"
#include "base/iov.h"
#include "base/mem.h"
#include "sync/atomic.h"
#include <errno.h>

enum {
    OP_TEST_UNIT_READY = 0x00,
    OP_REQUEST_SENSE = 0x03,
    OP_INQUIRY = 0x12,
    OP_REPORT_LUNS = 0xa0,
    TYPE_WELL_KNOWN = 0x1e,
    TYPE_NOT_THERE = 0x7f,
    LUN_BYTES = 8,
    LIST_HEADER_BYTES = 8,
    LIST_CHUNK_LUNS = 64,
};

struct entry {
    uint16_t lun;
    struct scsi_slot *slot;
};

struct version {
    struct rcu_node rcu;
    uint32_t begin[SCSI_TARGETS_MAX + 1]; /* of target t: entries begin[t] up to begin[t + 1] */
    struct entry entries[];
};

struct scsi_table {
    struct version *current; /* RCU; written on the main loop */
};

struct span { /* the entries of one target */
    const struct entry *entries;
    uint32_t count;
};

static struct version *version_new(uint32_t count)
{
    return mem_alloc(sizeof(struct version) + count * sizeof(struct entry));
}

ANY_THREAD
static void version_free_rcu(struct rcu_node *node)
{
    mem_free(container_of(node, struct version, rcu));
}

static uint32_t version_count(const struct version *version)
{
    return version->begin[SCSI_TARGETS_MAX];
}

static struct span target_span(const struct version *version, uint8_t target)
{
    uint32_t begin = version->begin[target];

    return (struct span){version->entries + begin, version->begin[target + 1] - begin};
}

/* Where @lun is among the entries, or would have to be put. */
static uint32_t lower_bound(struct span span, uint16_t lun)
{
    uint32_t low = 0, high = min_of(span.count, (uint32_t)lun + 1); /* LUNs differ: not beyond */

    if (high > 0 && span.entries[high - 1].lun < lun) {
        return high;
    }
    if (lun < span.count && span.entries[lun].lun == lun) {
        return lun; /* numbered without gaps */
    }
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (span.entries[middle].lun < lun) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static struct scsi_slot *version_find(const struct version *version, uint8_t target, uint16_t lun)
{
    struct span span = target_span(version, target);
    uint32_t i = lower_bound(span, lun);

    return i < span.count && span.entries[i].lun == lun ? span.entries[i].slot : NULL;
}

/* ---- changes, on the main loop ---- */

struct scsi_table *scsi_table_new(void)
{
    struct scsi_table *table = mem_new(struct scsi_table);

    table->current = version_new(0);
    return table;
}

void scsi_table_free(struct scsi_table *table)
{
    if (table != NULL) {
        assert(version_count(table->current) == 0);
        mem_free(table->current);
        mem_free(table);
    }
}

/* @version with @slot (NULL: with nothing) in place of @removed entries (0 or 1) at the @i-th of
 * @target. */
static struct version *version_replace(const struct version *version, uint8_t target, uint32_t i,
                                       uint32_t removed, struct scsi_slot *slot)
{
    uint32_t at = version->begin[target] + i;
    uint32_t added = slot != NULL ? 1 : 0, count = version_count(version);
    struct version *next = version_new(count - removed + added);

    memcpy(next->entries, version->entries, at * sizeof(struct entry));
    if (slot != NULL) {
        next->entries[at] = (struct entry){slot->lun, slot};
    }
    memcpy(next->entries + at + added, version->entries + at + removed,
           (count - at - removed) * sizeof(struct entry));
    for (unsigned t = 0; t <= SCSI_TARGETS_MAX; t++) {
        next->begin[t] = version->begin[t] + (t > target ? added - removed : 0);
    }
    return next;
}

static void publish_version(struct scsi_table *table, struct version *next)
{
    struct version *old = table->current;

    rcu_publish(&table->current, next);
    rcu_call(&old->rcu, version_free_rcu);
}

int scsi_table_publish(struct scsi_table *table, struct scsi_slot *slot)
{
    const struct version *version = table->current;
    struct span span = target_span(version, slot->target);
    uint32_t i = lower_bound(span, slot->lun);

    assert(slot->lun < SCSI_LUNS_MAX);
    assert(slot->port != NULL);
    if (i < span.count && span.entries[i].lun == slot->lun) {
        return -EBUSY;
    }
    publish_version(table, version_replace(version, slot->target, i, 0, slot));
    return 0;
}

void scsi_table_unpublish(struct scsi_table *table, struct scsi_slot *slot)
{
    const struct version *version = table->current;
    struct span span = target_span(version, slot->target);
    uint32_t i = lower_bound(span, slot->lun);

    assert(i < span.count);
    assert(span.entries[i].slot == slot);
    publish_version(table, version_replace(version, slot->target, i, 1, NULL));
}

struct scsi_slot *scsi_table_at(struct scsi_table *table, uint8_t target, uint16_t lun)
{
    return version_find(table->current, target, lun);
}

/* The lowest target, of those that @target leaves open, where @lun is free; -1: none. */
static int lowest_target(const struct version *version, int target, uint16_t lun)
{
    int first = target >= 0 ? target : 0;
    int last = target >= 0 ? target : SCSI_TARGETS_MAX - 1;

    for (int t = first; t <= last; t++) {
        if (version_find(version, (uint8_t)t, lun) == NULL) {
            return t;
        }
    }
    return -1;
}

int scsi_table_lowest_free(struct scsi_table *table, int target, int lun, uint8_t *ret_target,
                           uint16_t *ret_lun)
{
    int first = lun >= 0 ? lun : 0;
    int last = lun >= 0 ? lun : SCSI_LUNS_MAX - 1;

    assert(target < SCSI_TARGETS_MAX);
    assert(lun < SCSI_LUNS_MAX);
    for (int l = first; l <= last; l++) {
        int t = lowest_target(table->current, target, (uint16_t)l);

        if (t >= 0) {
            *ret_target = (uint8_t)t;
            *ret_lun = (uint16_t)l;
            return 0;
        }
    }
    return -ENOSPC;
}

void scsi_table_raise_ua(struct scsi_table *table, int target, enum scsi_ua ua)
{
    const struct version *version = table->current;
    uint32_t first = target >= 0 ? version->begin[target] : 0;
    uint32_t end = target >= 0 ? version->begin[target + 1] : version_count(version);

    assert(target < SCSI_TARGETS_MAX);
    for (uint32_t i = first; i < end; i++) {
        scsi_port_raise_ua(version->entries[i].slot->port, ua);
    }
}

/* ---- lookups, on any registered thread ---- */

struct scsi_slot *scsi_table_find(struct scsi_table *table, uint8_t target, uint16_t lun)
{
    return version_find(rcu_get(&table->current), target, lun);
}

bool scsi_table_has_target(struct scsi_table *table, uint8_t target)
{
    return target_span(rcu_get(&table->current), target).count != 0;
}

/* ---- REPORT LUNS (SPC-4 6.33) ---- */

enum { SELECT_LOGICAL_UNITS = 0x00, SELECT_WELL_KNOWN = 0x01, SELECT_ALL = 0x02 };

/* SAM-5 4.7: peripheral device addressing below 256, flat space above, extended for the well-known.
 */
static void put_lun(uint16_t lun, uint8_t *to)
{
    memset(to, 0, LUN_BYTES);
    if (lun >= 256 && lun != SCSI_LUN_WELL_KNOWN_REPORT) {
        lun |= 0x4000;
    }
    be16_store(to, lun);
}

struct lun_writer { /* fills data-in from the front, as far as the allocation length goes */
    struct scsi_cmd *cmd;
    uint32_t room;
    uint8_t chunk[LIST_CHUNK_LUNS * LUN_BYTES];
    size_t chunk_bytes;
};

static void writer_flush(struct lun_writer *writer)
{
    size_t bytes = min_of(writer->chunk_bytes, (size_t)writer->room);

    writer->cmd->transferred += iov_copy_in(writer->cmd->data_in, writer->cmd->data_in_count,
                                            writer->cmd->transferred, writer->chunk, bytes);
    writer->room -= (uint32_t)bytes;
    writer->chunk_bytes = 0;
}

static void writer_add_lun(struct lun_writer *writer, uint16_t lun)
{
    if (writer->chunk_bytes == sizeof(writer->chunk)) {
        writer_flush(writer);
    }
    put_lun(lun, writer->chunk + writer->chunk_bytes);
    writer->chunk_bytes += LUN_BYTES;
}

static void write_lun_list(struct scsi_cmd *cmd, struct span span, bool units, bool well_known,
                           uint32_t allocation)
{
    struct lun_writer writer = {.cmd = cmd, .room = allocation, .chunk_bytes = LIST_HEADER_BYTES};
    uint32_t luns = (units ? span.count : 0) + (well_known ? 1 : 0);

    be32_store(writer.chunk, luns * LUN_BYTES); /* of the whole list, however much of it fits */
    for (uint32_t i = 0; units && i < span.count && writer.room > 0; i++) {
        writer_add_lun(&writer, span.entries[i].lun);
    }
    if (well_known) { /* C1h is above every other first byte: the list stays sorted */
        writer_add_lun(&writer, SCSI_LUN_WELL_KNOWN_REPORT);
    }
    writer_flush(&writer);
}

static void report_luns(struct scsi_table *table, uint8_t target, struct scsi_cmd *cmd,
                        uint32_t allocation)
{
    uint8_t select = cmd->cdb[2];
    struct span span;

    if (select > SELECT_ALL || allocation < 16) {
        scsi_cmd_fail(cmd, SCSI_INVALID_FIELD_IN_CDB);
        return;
    }
    span = target_span(rcu_get(&table->current), target);
    for (uint32_t i = 0; i < span.count; i++) { /* (L5) */
        scsi_port_clear_ua(span.entries[i].slot->port, SCSI_UA_REPORTED_LUNS_CHANGED);
    }
    span = target_span(rcu_get(&table->current), target); /* (L4), (L5): not the one from above */
    write_lun_list(cmd, span, select != SELECT_WELL_KNOWN, select != SELECT_LOGICAL_UNITS,
                   allocation);
}

/* ---- what a target answers ---- */

/*
 * INQUIRY where no logical unit is: qualifier 011b and type 1Fh, at LUN 0 as at any other (SPC-4
 * 6.4.2, SAM-5 4.7.4). Linux takes that for "the target is there, this LUN is not"
 * (scsi_probe_and_add_lun() gives SCSI_SCAN_TARGET_PRESENT) and, the version being 3 or more, goes
 * on to REPORT LUNS: so a disk at LUN 1 alone is found. Qualifier 001b would do there as well, but
 * older kernels and other systems attach a device that is no disk, and SPC-4 lets such a LUN into
 * the inventory that we want it kept out of. A CHECK CONDITION would end the scan ("no response"),
 * with a warning when a LUN goes while it is probed.
 */
static void inquiry(uint16_t lun, struct scsi_cmd *cmd, uint32_t length)
{
    bool well_known = lun == SCSI_LUN_WELL_KNOWN_REPORT;

    scsi_inquiry_of_target(cmd, well_known ? TYPE_WELL_KNOWN : TYPE_NOT_THERE, length);
}

static void request_sense(uint16_t lun, struct scsi_cmd *cmd, uint32_t length)
{
    bool well_known = lun == SCSI_LUN_WELL_KNOWN_REPORT;

    scsi_reply_sense(cmd, well_known ? SCSI_NO_SENSE : SCSI_LUN_NOT_SUPPORTED, length);
}

static bool has_command(uint16_t lun, uint8_t opcode)
{
    return opcode == OP_INQUIRY || opcode == OP_REQUEST_SENSE || opcode == OP_REPORT_LUNS ||
           (opcode == OP_TEST_UNIT_READY && lun == SCSI_LUN_WELL_KNOWN_REPORT);
}

void scsi_target_execute(struct scsi_table *table, uint8_t target, uint16_t lun,
                         struct scsi_cmd *cmd)
{
    struct scsi_sense why = SCSI_LUN_NOT_SUPPORTED;
    const struct scsi_command *command = NULL;
    uint32_t length;

    scsi_cmd_begin(cmd);
    if (has_command(lun, cmd->cdb[0])) {
        command = scsi_command_find(NULL, cmd->cdb, &why);
    } else if (lun == SCSI_LUN_WELL_KNOWN_REPORT) {
        why = SCSI_INVALID_OPCODE; /* that logical unit is supported, the command is not */
    }
    if (command == NULL) {
        scsi_cmd_fail(cmd, why);
        return;
    }
    length = scsi_command_length(command, cmd->cdb);
    switch (cmd->cdb[0]) {
    case OP_REPORT_LUNS:
        report_luns(table, target, cmd, length);
        break;
    case OP_INQUIRY:
        inquiry(lun, cmd, length);
        break;
    case OP_REQUEST_SENSE:
        request_sense(lun, cmd, length);
        break;
    default:
        assert(cmd->cdb[0] == OP_TEST_UNIT_READY); /* GOOD */
    }
}

bool scsi_target_answers(const uint8_t *cdb)
{
    return cdb[0] == OP_REPORT_LUNS;
}

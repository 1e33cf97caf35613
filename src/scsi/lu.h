/*
 * lu.h -- logical units, the ports they are reached through, and the execution of a command.
 *
 * A logical unit is the disk: geometry, identity, mode pages, reservations; what is true of it is
 * true through every port. A port is one (HBA, target, lun) address of it: unit attentions and
 * auto-sense belong to the nexus of a port and its one initiator. Commands run on any loop, several
 * at once, and take no lock: a logical unit is constant after creation but for words that are
 * atomic.
 *
 * Who accounts for what. The CDB says how much it wants moved (scsi_cmd_transfer()); the transport
 * knows how much room the initiator gave. virtio-scsi wants VIRTIO_SCSI_S_OVERRUN, and nothing
 * executed, when the room is smaller: the HBA compares before it executes. A transport without such
 * an answer may execute all the same: data-in is cut to the room, data-out that is too short is
 * refused with INVALID FIELD IN CDB before anything is written. `transferred` counts bytes that
 * really moved; the residual is the room less that, and is the transport's to report.
 */
#pragma once
#include "base/err.h"
#include "base/list.h"
#include "scsi/medium.h"
#include "scsi/sense.h"

enum {
    SCSI_CDB_BYTES_MAX = 32,
    SCSI_SENSE_BYTES_MAX = 96,  /* what virtio-scsi's sense_size defaults to */
    SCSI_UNMAP_DESCRIPTORS_MAX = 255, /* of one UNMAP: its list fits a coroutine's stack */
    SCSI_BLOCK_BYTES_MAX = 2 << 20,
    SCSI_DESCRIPTION_BYTES_MAX = 96,
};

enum scsi_status { /* SAM-5 5.3.1 */
    SCSI_GOOD = 0x00, SCSI_CHECK_CONDITION = 0x02, SCSI_BUSY = 0x08,
    SCSI_RESERVATION_CONFLICT = 0x18, SCSI_TASK_SET_FULL = 0x28, SCSI_TASK_ABORTED = 0x40,
};

/* What a device's properties decide; copied. Texts are NUL-terminated, padded by the code. */
struct scsi_lu_config {
    uint32_t logical_block_bytes;   /* 512 or 4096… a power of two */
    uint32_t physical_block_bytes;
    uint32_t opt_io_bytes, min_io_bytes;  /* 0: not reported */
    uint32_t discard_granularity_bytes;   /* 0: physical block */
    uint64_t max_unmap_bytes, max_io_bytes; /* 0: no limit; the first also limits WRITE SAME */
    uint16_t rotation_rate;         /* as VPD B1h; 0: not reported, 1: non-rotating */
    uint8_t scsi_version;           /* of standard INQUIRY data, 3 to 7; 0: 5, SPC-3 */
    bool read_only, removable, write_cache, dpofua, thin; /* thin: UNMAP is offered */
    bool discard_reads_zero;        /* discarded blocks keep their data or read as zeroes (LBPRZ) */
    char vendor[9], product[17], version[5], serial[37], device_id[21];
    uint64_t wwn, port_wwn;         /* 0: none */
    uint16_t port_index;            /* relative target port; 0: not reported */
};

struct scsi_lu;   /* logical unit */
struct scsi_port; /* one address of it */

/* The medium outlives the logical unit. -EINVAL with a text for impossible geometry. */
MAIN_LOOP
int scsi_lu_new(const struct scsi_lu_config *config, const struct scsi_medium_ops *ops,
                void *medium, struct scsi_lu **ret_lu, struct err **reterr);
MAIN_LOOP
void scsi_lu_free(struct scsi_lu *lu); /* no port, no command left; NULL is fine */
/* SCSI_UA_POWER_ON is pending at a new port: its initiator has not seen it before. */
MAIN_LOOP
struct scsi_port *scsi_port_new(struct scsi_lu *lu, uint8_t target, uint16_t lun);
MAIN_LOOP
void scsi_port_free(struct scsi_port *port); /* NULL is fine */
ANY_THREAD
struct scsi_lu *scsi_port_lu(const struct scsi_port *port);

/* Unit attentions pending for the nexus; a set of bits, so raising one twice reports it once. Taken
 * atomically: two commands never report the same one. Higher priority first (SAM-5 5.14). */
enum scsi_ua {
    SCSI_UA_POWER_ON,                /* 29/00: first use, HBA reset */
    SCSI_UA_BUS_DEVICE_RESET,        /* 29/03: LUN RESET */
    SCSI_UA_NEXUS_LOSS,              /* 29/07: I_T NEXUS RESET */
    SCSI_UA_COMMANDS_CLEARED,        /* 2F/00: CLEAR TASK SET through another nexus */
    SCSI_UA_REPORTED_LUNS_CHANGED,   /* 3F/0E */
    SCSI_UA_CAPACITY_CHANGED,        /* 2A/09 */
    SCSI_UA_MODE_PARAMETERS_CHANGED, /* 2A/01 */
    SCSI_UA_MAX_
};
ANY_THREAD
void scsi_port_raise_ua(struct scsi_port *port, enum scsi_ua ua);
/* As if it had been reported; nothing if it was not pending. */
ANY_THREAD
void scsi_port_clear_ua(struct scsi_port *port, enum scsi_ua ua);

/* One command. The transport fills the first group; the second is the answer. Buffers may be guest
 * memory: data-out is copied once before it is interpreted. Owned by the transport. */
struct scsi_cmd {
    const uint8_t *cdb;            /* a private copy, SCSI_CDB_BYTES_MAX long, zero-padded */
    const struct iovec *data_out;  /* from the initiator */
    size_t data_out_count, data_out_bytes;
    const struct iovec *data_in;   /* to the initiator */
    size_t data_in_count, data_in_bytes;

    uint8_t status;                /* enum scsi_status */
    size_t transferred;            /* bytes of data-in written or data-out used */
    uint8_t sense[SCSI_SENSE_BYTES_MAX];
    size_t sense_bytes;            /* fixed format, 18, or 0 */
    int medium_errno;              /* positive when the medium failed: for werror/rerror and logs */
};

/* Execute at a plugged logical unit; returns when @cmd has its answer. REPORT LUNS does not come
 * here: the target answers it (scsi_target_answers()). */
CO_FN
void scsi_co_execute(struct scsi_port *port, struct scsi_cmd *cmd);

/* Does this command reach the medium, so that it needs a token and an open gate? (INQUIRY, REQUEST
 * SENSE, MODE SENSE, REPORT LUNS, READ CAPACITY… do not and are answered while the disk is
 * drained.) */
ANY_THREAD
bool scsi_cmd_needs_medium(const uint8_t *cdb);

enum scsi_direction { SCSI_DATA_NONE, SCSI_DATA_IN, SCSI_DATA_OUT };

/* How much @cdb wants moved, and which way: allocation length, parameter list, blocks. @port NULL:
 * the target's own answer. Commands that nobody here knows want nothing: they fail by themselves.
 */
ANY_THREAD
enum scsi_direction scsi_cmd_transfer(const struct scsi_port *port, const uint8_t *cdb,
                                      uint64_t *ret_bytes);

/* Bytes of @cdb by its group code (SPC-5 4.2.5.1); 0: vendor specific or reserved. */
ANY_THREAD
unsigned scsi_cdb_bytes(uint8_t opcode);

/* "WRITE(10)"; also for commands that are not supported here. Never NULL. */
ANY_THREAD
const char *scsi_opcode_name(uint8_t opcode);
/* "WRITE(10) lba 2048 blocks 8" into @to (@bytes long, SCSI_DESCRIPTION_BYTES_MAX suffices);
 * returns it. */
ANY_THREAD
const char *scsi_cmd_describe(const uint8_t *cdb, char *to, size_t bytes);

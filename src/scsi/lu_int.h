/*
 * lu_int.h -- inside scsi/: the logical unit itself, the command table and how a command is
 * answered.
 *
 * (C1) Nothing here locks. A logical unit is constant after scsi_lu_new(); a port has one atomic
 *      word.
 * (C2) A command is checked whole before it has an effect: one that is refused changed nothing.
 * (C3) Each handler gives exactly one answer: scsi_cmd_reply(), scsi_cmd_fail…(), or neither, which
 *      is GOOD without data.
 */
#pragma once
#include "scsi/lu.h"
#include "base/bytes.h"
#include "base/checked.h"

struct scsi_lu {
    struct scsi_lu_config config;      /* all of this: constant after scsi_lu_new() */
    const struct scsi_medium_ops *ops;
    void *medium;
    unsigned block_shift;
    uint32_t transfer_blocks_max;      /* of READ and WRITE; 0: no limit */
    uint32_t unmap_blocks_max;         /* of one UNMAP; UINT32_MAX: no limit (SBC-3 6.5.3) */
    uint64_t write_same_blocks_max;    /* 0: no limit */
    unsigned port_count;               /* main loop only */
};

struct scsi_port {
    struct scsi_lu *lu;                /* constant */
    uint8_t target;                    /* constant */
    uint16_t lun;                      /* constant */
    uint32_t ua;                       /* atomic; bit n: enum scsi_ua n is pending */
};

/* ---- the command table (dispatch.c) ---- */

enum scsi_command_flags {
    SCSI_CMD_MEDIUM = 1 << 0,     /* does I/O: needs a token */
    SCSI_CMD_WRITES = 1 << 1,     /* refused on a write-protected medium */
    SCSI_CMD_IGNORES_UA = 1 << 2, /* executed although a unit attention is pending (SAM-5 5.14.4) */
    SCSI_CMD_THIN = 1 << 3,       /* not there without thin provisioning */
    SCSI_CMD_OUT = 1 << 4,        /* its data phase, if any, is data-out */
    SCSI_CMD_RANGE = 1 << 5,      /* has an LBA and a number of blocks, placed by its group code */
};

enum scsi_unit { /* what a CDB's length field counts */
    SCSI_UNIT_NONE,      /* no data phase (the length may still count blocks of the range) */
    SCSI_UNIT_BYTES,     /* allocation or parameter list length */
    SCSI_UNIT_BLOCKS,    /* data of so many blocks */
    SCSI_UNIT_ONE_BLOCK, /* one block of data for the whole range */
    SCSI_UNIT_FIXED,     /* no length field: always 8 bytes */
};

struct scsi_command {
    const char *name;
    unsigned flags;
    enum scsi_unit unit;
    uint8_t length_at, length_bytes; /* where the length field is, 0 bytes: there is none */
    uint8_t usage[16];               /* bits of the CDB that are looked at or ignored; any other
                                      * that is set is refused. Byte 0: the opcode (SPC-4 6.35) */
    /* @length: what the length field says. NULL: the target answers (target.c). */
    CO_SLOT void (*co_run)(struct scsi_port *port, struct scsi_cmd *cmd, uint32_t length);
};

/* The command of @cdb, or NULL and the reason in *@ret_why. @lu NULL: what targets know. */
ANY_THREAD
const struct scsi_command *scsi_command_find(const struct scsi_lu *lu, const uint8_t *cdb,
                                             struct scsi_sense *ret_why);
/* Its length field; READ(6)'s 0 is 256 already. */
ANY_THREAD
uint32_t scsi_command_length(const struct scsi_command *command, const uint8_t *cdb);
/* The LBA, placed by the group code. */
ANY_THREAD
uint64_t scsi_cdb_lba(const uint8_t *cdb);

/* ---- answers (reply.c) ---- */

ANY_THREAD
void scsi_cmd_begin(struct scsi_cmd *cmd); /* GOOD, nothing moved */
ANY_THREAD
void scsi_cmd_fail(struct scsi_cmd *cmd, struct scsi_sense sense); /* CHECK CONDITION */
ANY_THREAD
void scsi_cmd_fail_read(struct scsi_cmd *cmd, int rc);  /* the medium said -errno */
ANY_THREAD
void scsi_cmd_fail_write(struct scsi_cmd *cmd, int rc);
/* GOOD with @bytes of data-in, cut to the allocation length and to the room there is. */
ANY_THREAD
void scsi_cmd_reply(struct scsi_cmd *cmd, const void *data, size_t bytes, uint32_t allocation);
/* Text into a field of @bytes, padded with spaces, no NUL (SPC-4 4.3.1). */
ANY_THREAD
void scsi_put_text(uint8_t *to, size_t bytes, const char *text);

/* ---- helpers of the logical unit (lu.c) ---- */

ANY_THREAD
uint64_t scsi_lu_blocks(const struct scsi_lu *lu); /* capacity, now */
/* Take the pending unit attention of the highest priority. False: none. */
ANY_THREAD
bool scsi_port_take_ua(struct scsi_port *port, struct scsi_sense *ret_sense);
/* The same without taking. */
ANY_THREAD
bool scsi_port_peek_ua(struct scsi_port *port, struct scsi_sense *ret_sense);

/* Blocks [@lba, + @blocks) as bytes of the medium. False: @cmd has failed, LBA OUT OF RANGE. */
ANY_THREAD
bool scsi_lu_resolve(const struct scsi_lu *lu, struct scsi_cmd *cmd, uint64_t lba, uint64_t blocks,
                     uint64_t *ret_offset, uint64_t *ret_bytes);

/* ---- handlers ---- */

#define SCSI_HANDLER(name)                                                                         \
    CO_FN void scsi_co_##name(struct scsi_port *port, struct scsi_cmd *cmd, uint32_t length)

SCSI_HANDLER(inquiry);          /* inquiry.c */
SCSI_HANDLER(mode_sense_6);     /* mode.c */
SCSI_HANDLER(mode_sense_10);
SCSI_HANDLER(test_unit_ready);  /* report.c */
SCSI_HANDLER(request_sense);
SCSI_HANDLER(read_capacity_10);
SCSI_HANDLER(read_capacity_16);
SCSI_HANDLER(read);             /* rw.c */
SCSI_HANDLER(write);
SCSI_HANDLER(synchronize_cache);
SCSI_HANDLER(unmap);            /* zero.c */
SCSI_HANDLER(write_same);

/* What a target without a logical unit there answers to INQUIRY; @first_byte: peripheral qualifier
 * and device type. inquiry.c */
ANY_THREAD
void scsi_inquiry_of_target(struct scsi_cmd *cmd, uint8_t first_byte, uint32_t length);
/* REQUEST SENSE's answer: @sense as parameter data. report.c */
ANY_THREAD
void scsi_reply_sense(struct scsi_cmd *cmd, struct scsi_sense sense, uint32_t length);

/*
 * dispatch.c -- the command table, and what every command goes through before its handler.
 *
 * The order of checks is SAM's: unit attention, then the opcode, then the CDB's fields, then write
 * protection, then what the handler itself checks. A row's usage bytes are the command's CDB with a
 * one in each bit that means something or may be ignored (group number, vendor bits of CONTROL); a
 * one elsewhere is a reserved bit, or a protection field, ANCHOR or NACA, which we do not support:
 * INVALID FIELD IN CDB.
 */
#include "scsi/lu_int.h"
#include "base/str.h"
#include <inttypes.h>
#include <stdio.h>

#define ALL4 0xff, 0xff, 0xff, 0xff
#define ALL8 ALL4, ALL4
#define LENGTH(at, bytes) .length_at = (at), .length_bytes = (bytes)
enum {
    CTL = 0xc0,     /* CONTROL: vendor specific bits are ignored */
    LUN = 0xe0,     /* SCSI-2's LUN in byte 1, ignored: Linux sets it until INQUIRY says SPC */
    RW_BITS = 0x1a, /* DPO, FUA, FUA_NV; not RDPROTECT/WRPROTECT */
    GROUP = 0x3f,   /* group number: ignored, there is no grouping function (SBC-4 4.23) */
    RANGE_WRITE = SCSI_CMD_MEDIUM | SCSI_CMD_WRITES | SCSI_CMD_OUT | SCSI_CMD_RANGE,
    RANGE_READ = SCSI_CMD_MEDIUM | SCSI_CMD_RANGE,
};

static const struct scsi_command commands[256] = {
    [0x00] = {.name = "TEST UNIT READY", .usage = {0x00, LUN, 0, 0, 0, CTL},
              .co_run = scsi_co_test_unit_ready},
    [0x03] = {.name = "REQUEST SENSE", .flags = SCSI_CMD_IGNORES_UA, .unit = SCSI_UNIT_BYTES,
              LENGTH(4, 1), .usage = {0x03, LUN | 0x01, 0, 0, 0xff, CTL},
              .co_run = scsi_co_request_sense},
    [0x08] = {.name = "READ(6)", .flags = RANGE_READ, .unit = SCSI_UNIT_BLOCKS,
              LENGTH(4, 1), .usage = {0x08, LUN | 0x1f, 0xff, 0xff, 0xff, CTL},
              .co_run = scsi_co_read},
    [0x0a] = {.name = "WRITE(6)", .flags = RANGE_WRITE, .unit = SCSI_UNIT_BLOCKS,
              LENGTH(4, 1), .usage = {0x0a, LUN | 0x1f, 0xff, 0xff, 0xff, CTL},
              .co_run = scsi_co_write},
    [0x12] = {.name = "INQUIRY", .flags = SCSI_CMD_IGNORES_UA, .unit = SCSI_UNIT_BYTES,
              LENGTH(3, 2), .usage = {0x12, LUN | 0x01, 0xff, 0xff, 0xff, CTL},
              .co_run = scsi_co_inquiry},
    [0x1a] = {.name = "MODE SENSE(6)", .unit = SCSI_UNIT_BYTES, LENGTH(4, 1),
              .usage = {0x1a, LUN | 0x08, 0xff, 0xff, 0xff, CTL}, .co_run = scsi_co_mode_sense_6},
    [0x25] = {.name = "READ CAPACITY(10)", .unit = SCSI_UNIT_FIXED,
              .usage = {0x25, LUN, ALL4, 0, 0, 0x01, CTL}, .co_run = scsi_co_read_capacity_10},
    [0x28] = {.name = "READ(10)", .flags = RANGE_READ, .unit = SCSI_UNIT_BLOCKS,
              LENGTH(7, 2), .usage = {0x28, RW_BITS, ALL4, GROUP, 0xff, 0xff, CTL},
              .co_run = scsi_co_read},
    [0x2a] = {.name = "WRITE(10)", .flags = RANGE_WRITE, .unit = SCSI_UNIT_BLOCKS,
              LENGTH(7, 2), .usage = {0x2a, RW_BITS, ALL4, GROUP, 0xff, 0xff, CTL},
              .co_run = scsi_co_write},
    [0x35] = {.name = "SYNCHRONIZE CACHE(10)", .flags = RANGE_READ,
              LENGTH(7, 2), .usage = {0x35, LUN | 0x06, ALL4, GROUP, 0xff, 0xff, CTL},
              .co_run = scsi_co_synchronize_cache},
    [0x41] = {.name = "WRITE SAME(10)", .flags = RANGE_WRITE, .unit = SCSI_UNIT_ONE_BLOCK,
              LENGTH(7, 2), .usage = {0x41, 0x08, ALL4, GROUP, 0xff, 0xff, CTL},
              .co_run = scsi_co_write_same},
    [0x42] = {.name = "UNMAP", .unit = SCSI_UNIT_BYTES, LENGTH(7, 2),
              .flags = SCSI_CMD_MEDIUM | SCSI_CMD_WRITES | SCSI_CMD_OUT | SCSI_CMD_THIN,
              .usage = {0x42, 0x00, 0, 0, 0, 0, GROUP, 0xff, 0xff, CTL}, .co_run = scsi_co_unmap},
    [0x5a] = {.name = "MODE SENSE(10)", .unit = SCSI_UNIT_BYTES, LENGTH(7, 2),
              .usage = {0x5a, LUN | 0x18, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, CTL},
              .co_run = scsi_co_mode_sense_10},
    [0x88] = {.name = "READ(16)", .flags = RANGE_READ, .unit = SCSI_UNIT_BLOCKS,
              LENGTH(10, 4), .usage = {0x88, RW_BITS, ALL8, ALL4, GROUP, CTL},
              .co_run = scsi_co_read},
    [0x8a] = {.name = "WRITE(16)", .flags = RANGE_WRITE, .unit = SCSI_UNIT_BLOCKS,
              LENGTH(10, 4), .usage = {0x8a, RW_BITS, ALL8, ALL4, GROUP, CTL},
              .co_run = scsi_co_write},
    [0x91] = {.name = "SYNCHRONIZE CACHE(16)", .flags = RANGE_READ,
              LENGTH(10, 4), .usage = {0x91, 0x06, ALL8, ALL4, GROUP, CTL},
              .co_run = scsi_co_synchronize_cache},
    [0x93] = {.name = "WRITE SAME(16)", .flags = RANGE_WRITE, .unit = SCSI_UNIT_ONE_BLOCK,
              LENGTH(10, 4), .usage = {0x93, 0x09, ALL8, ALL4, GROUP, CTL},
              .co_run = scsi_co_write_same},
    [0xa0] = {.name = "REPORT LUNS", .flags = SCSI_CMD_IGNORES_UA, .unit = SCSI_UNIT_BYTES,
              LENGTH(6, 4), .usage = {0xa0, LUN, 0xff, 0, 0, 0, ALL4, 0, CTL}},
    [0xa8] = {.name = "READ(12)", .flags = RANGE_READ, .unit = SCSI_UNIT_BLOCKS,
              LENGTH(6, 4), .usage = {0xa8, RW_BITS, ALL4, ALL4, GROUP, CTL},
              .co_run = scsi_co_read},
    [0xaa] = {.name = "WRITE(12)", .flags = RANGE_WRITE, .unit = SCSI_UNIT_BLOCKS,
              LENGTH(6, 4), .usage = {0xaa, RW_BITS, ALL4, ALL4, GROUP, CTL},
              .co_run = scsi_co_write},
};

/* Opcodes that are told apart by a service action, in the low five bits of byte 1. */
enum { SERVICE_ACTION_IN_16 = 0x9e, SAI_READ_CAPACITY_16 = 0x10 };
static const struct scsi_command read_capacity_16 = {
    .name = "READ CAPACITY(16)", .unit = SCSI_UNIT_BYTES, LENGTH(10, 4),
    .usage = {0x9e, 0x1f, ALL8, ALL4, 0x01, CTL}, .co_run = scsi_co_read_capacity_16,
};

unsigned scsi_cdb_bytes(uint8_t opcode)
{
    static const uint8_t by_group[8] = {6, 10, 10, 0, 16, 12, 0, 0};

    return by_group[opcode >> 5];
}

uint64_t scsi_cdb_lba(const uint8_t *cdb)
{
    switch (scsi_cdb_bytes(cdb[0])) {
    case 6:
        return be24_load(cdb + 1) & 0x1fffff;
    case 16:
        return be64_load(cdb + 2);
    default:
        return be32_load(cdb + 2);
    }
}

/* Every row of the table that @cdb names, whatever its other bits. */
static const struct scsi_command *find_row(const uint8_t *cdb, struct scsi_sense *ret_why)
{
    if (unlikely(cdb[0] == SERVICE_ACTION_IN_16)) {
        *ret_why = SCSI_INVALID_FIELD_IN_CDB; /* the opcode exists, this service action does not */
        return (cdb[1] & 0x1f) == SAI_READ_CAPACITY_16 ? &read_capacity_16 : NULL;
    }
    *ret_why = SCSI_INVALID_OPCODE;
    return commands[cdb[0]].name != NULL ? &commands[cdb[0]] : NULL;
}

static bool usage_allows(const struct scsi_command *command, const uint8_t *cdb)
{
    unsigned bytes = scsi_cdb_bytes(cdb[0]);
    uint8_t foreign = 0;

    for (unsigned i = 1; i < bytes; i++) {
        foreign |= (uint8_t)(cdb[i] & ~command->usage[i]);
    }
    return foreign == 0;
}

const struct scsi_command *scsi_command_find(const struct scsi_lu *lu, const uint8_t *cdb,
                                             struct scsi_sense *ret_why)
{
    const struct scsi_command *command = find_row(cdb, ret_why);

    if (command == NULL) {
        return NULL;
    }
    if (lu != NULL && (command->flags & SCSI_CMD_THIN) != 0 && !lu->config.thin) {
        *ret_why = SCSI_INVALID_OPCODE;
        return NULL;
    }
    if (!usage_allows(command, cdb)) {
        *ret_why = SCSI_INVALID_FIELD_IN_CDB;
        return NULL;
    }
    return command;
}

uint32_t scsi_command_length(const struct scsi_command *command, const uint8_t *cdb)
{
    const uint8_t *at = cdb + command->length_at;

    switch (command->length_bytes) {
    case 0:
        return 0;
    case 1:
        if (command->unit == SCSI_UNIT_BLOCKS && at[0] == 0) {
            return 256; /* READ(6) and WRITE(6) alone */
        }
        return at[0];
    case 2:
        return be16_load(at);
    default:
        return be32_load(at);
    }
}

void scsi_co_execute(struct scsi_port *port, struct scsi_cmd *cmd)
{
    struct scsi_lu *lu = port->lu;
    struct scsi_sense why;
    const struct scsi_command *command = scsi_command_find(lu, cmd->cdb, &why);
    struct scsi_sense attention;

    scsi_cmd_begin(cmd);
    if ((command == NULL || (command->flags & SCSI_CMD_IGNORES_UA) == 0) &&
        scsi_port_take_ua(port, &attention)) {
        scsi_cmd_fail(cmd, attention);
        return;
    }
    if (unlikely(command == NULL || command->co_run == NULL)) {
        scsi_cmd_fail(cmd, command == NULL ? why : SCSI_INVALID_OPCODE);
        return;
    }
    if ((command->flags & SCSI_CMD_WRITES) != 0 && lu->config.read_only) {
        scsi_cmd_fail(cmd, SCSI_WRITE_PROTECTED);
        return;
    }
    command->co_run(port, cmd, scsi_command_length(command, cmd->cdb));
}

bool scsi_cmd_needs_medium(const uint8_t *cdb)
{
    struct scsi_sense why;
    const struct scsi_command *command = find_row(cdb, &why);

    return command != NULL && (command->flags & SCSI_CMD_MEDIUM) != 0;
}

static bool has_no_data_out_buffer(const uint8_t *cdb)
{
    return cdb[0] == 0x93 && (cdb[1] & 0x01) != 0; /* WRITE SAME(16), NDOB */
}

enum scsi_direction scsi_cmd_transfer(const struct scsi_port *port, const uint8_t *cdb,
                                      uint64_t *ret_bytes)
{
    const struct scsi_lu *lu = port == NULL ? NULL : port->lu;
    struct scsi_sense why;
    const struct scsi_command *command = scsi_command_find(lu, cdb, &why);
    uint64_t length = command == NULL ? 0 : scsi_command_length(command, cdb);

    *ret_bytes = 0;
    if (command == NULL || (lu == NULL && (command->flags & SCSI_CMD_IGNORES_UA) == 0)) {
        return SCSI_DATA_NONE;
    }
    switch (command->unit) {
    case SCSI_UNIT_NONE:
        return SCSI_DATA_NONE;
    case SCSI_UNIT_BYTES:
        *ret_bytes = length;
        break;
    case SCSI_UNIT_BLOCKS:
        *ret_bytes = length << lu->block_shift;
        break;
    case SCSI_UNIT_ONE_BLOCK:
        *ret_bytes = has_no_data_out_buffer(cdb) ? 0 : lu->config.logical_block_bytes;
        break;
    case SCSI_UNIT_FIXED:
        *ret_bytes = 8;
        break;
    }
    if (*ret_bytes == 0) {
        return SCSI_DATA_NONE;
    }
    return (command->flags & SCSI_CMD_OUT) != 0 ? SCSI_DATA_OUT : SCSI_DATA_IN;
}

const char *scsi_cmd_describe(const uint8_t *cdb, char *to, size_t bytes)
{
    struct scsi_sense why;
    const struct scsi_command *command = find_row(cdb, &why);

    if (command == NULL) {
        snprintf(to, bytes, "%s (opcode %02Xh)", scsi_opcode_name(cdb[0]), cdb[0]);
    } else if ((command->flags & SCSI_CMD_RANGE) != 0) {
        snprintf(to, bytes, "%s lba %" PRIu64 " blocks %" PRIu32, command->name, scsi_cdb_lba(cdb),
                 scsi_command_length(command, cdb));
    } else {
        snprintf(to, bytes, "%s", command->name);
    }
    return to;
}

/* Names of what is not in the table, for messages; other device types' too where disks see them. */
static const char *const other_names[256] = {
    [0x01] = "REWIND", [0x04] = "FORMAT UNIT", [0x07] = "REASSIGN BLOCKS", [0x0b] = "SEEK(6)",
    [0x15] = "MODE SELECT(6)", [0x16] = "RESERVE(6)", [0x17] = "RELEASE(6)",
    [0x1b] = "START STOP UNIT", [0x1c] = "RECEIVE DIAGNOSTIC RESULTS", [0x1d] = "SEND DIAGNOSTIC",
    [0x1e] = "PREVENT ALLOW MEDIUM REMOVAL", [0x2b] = "SEEK(10)", [0x2e] = "WRITE AND VERIFY(10)",
    [0x2f] = "VERIFY(10)", [0x34] = "PRE-FETCH(10)", [0x37] = "READ DEFECT DATA(10)",
    [0x3b] = "WRITE BUFFER", [0x3c] = "READ BUFFER(10)", [0x3e] = "READ LONG(10)",
    [0x3f] = "WRITE LONG(10)", [0x43] = "READ TOC", [0x46] = "GET CONFIGURATION",
    [0x48] = "SANITIZE", [0x4a] = "GET EVENT STATUS NOTIFICATION", [0x4c] = "LOG SELECT",
    [0x4d] = "LOG SENSE", [0x51] = "READ DISC INFORMATION", [0x53] = "XDWRITEREAD(10)",
    [0x55] = "MODE SELECT(10)", [0x56] = "RESERVE(10)", [0x57] = "RELEASE(10)",
    [0x5e] = "PERSISTENT RESERVE IN", [0x5f] = "PERSISTENT RESERVE OUT",
    [0x7f] = "variable length command", [0x83] = "EXTENDED COPY", [0x84] = "RECEIVE COPY RESULTS",
    [0x85] = "ATA PASS-THROUGH(16)", [0x89] = "COMPARE AND WRITE", [0x8b] = "ORWRITE(16)",
    [0x8c] = "READ ATTRIBUTE", [0x8d] = "WRITE ATTRIBUTE", [0x8e] = "WRITE AND VERIFY(16)",
    [0x8f] = "VERIFY(16)", [0x90] = "PRE-FETCH(16)", [0x94] = "ZBC OUT", [0x95] = "ZBC IN",
    [0x9b] = "READ BUFFER(16)", [0x9c] = "WRITE ATOMIC(16)", [0x9e] = "SERVICE ACTION IN(16)",
    [0x9f] = "SERVICE ACTION OUT(16)", [0xa1] = "ATA PASS-THROUGH(12)",
    [0xa2] = "SECURITY PROTOCOL IN", [0xa3] = "MAINTENANCE IN", [0xa4] = "MAINTENANCE OUT",
    [0xab] = "SERVICE ACTION IN(12)", [0xae] = "WRITE AND VERIFY(12)", [0xaf] = "VERIFY(12)",
    [0xb5] = "SECURITY PROTOCOL OUT", [0xb7] = "READ DEFECT DATA(12)", [0xbd] = "MECHANISM STATUS",
};

const char *scsi_opcode_name(uint8_t opcode)
{
    if (commands[opcode].name != NULL) {
        return commands[opcode].name;
    }
    if (other_names[opcode] != NULL) {
        return other_names[opcode];
    }
    return opcode >= 0xc0 ? "vendor specific command" : "unknown command";
}

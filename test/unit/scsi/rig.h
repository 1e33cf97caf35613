/*
 * rig.h -- a logical unit on a medium in memory, and commands run at it in a coroutine.
 *
 * No cmocka in here, so that the fuzzer uses it as well: what must hold for any command is asserted
 * by rig_run() itself (status and sense agree, no byte outside the buffers, no more moved than
 * fits).
 */
#pragma once
#include "scsi/target.h"
#include "scsi/lu_int.h"

/* Tests play the main loop and the home of every queue. */
#define ON_MAIN MAIN_LOOP HOME_LOOP

enum rig_op { RIG_READ, RIG_WRITE, RIG_FLUSH, RIG_DISCARD, RIG_ZEROES, RIG_OP_MAX_ };

struct rig {
    struct scsi_lu *lu;
    struct scsi_port *port;
    uint8_t *store;            /* NULL: a medium so large that it keeps nothing */
    uint64_t bytes;
    int fail[RIG_OP_MAX_];     /* 0 or the -errno the operation answers */
    unsigned calls[RIG_OP_MAX_];
    unsigned flags;            /* of the last write or zeroes */
    uint64_t offset, op_bytes; /* of the last operation */
    const struct iovec *iov;   /* list of the last read or write, gone by now */
    size_t iov_count;
    unsigned turns;            /* yields of the last command */
    struct co *ready;
    struct rig_home *home;
};

/* 512-byte blocks, write cache, dpofua, thin; names as in the golden pages. */
struct scsi_lu_config rig_config(void);
/* @config NULL: rig_config(). No unit attention is pending. */
ON_MAIN
void rig_init(struct rig *rig, uint64_t bytes, const struct scsi_lu_config *config);
ON_MAIN
void rig_init_huge(struct rig *rig, uint64_t bytes, const struct scsi_lu_config *config);
ON_MAIN
void rig_fini(struct rig *rig);
void rig_forget(struct rig *rig); /* calls, flags, failures */

/* One command: @out is sent, at most @in_bytes are received into @in (zeroed before). */
ON_MAIN
struct scsi_cmd rig_run(struct rig *rig, const uint8_t *cdb, size_t cdb_bytes, const void *out,
                        size_t out_bytes, void *in, size_t in_bytes);
/* The same at the target: no coroutine. */
struct scsi_cmd rig_run_target(struct scsi_table *table, uint8_t target, uint16_t lun,
                               const uint8_t *cdb, size_t cdb_bytes, void *in, size_t in_bytes);

#define CDB(...) ((const uint8_t[]){__VA_ARGS__}), sizeof((const uint8_t[]){__VA_ARGS__})
/* Without data, with data-in, with data-out. */
#define RUN(rig, ...) rig_run(rig, CDB(__VA_ARGS__), NULL, 0, NULL, 0)
#define RUN_IN(rig, in, in_bytes, ...) rig_run(rig, CDB(__VA_ARGS__), NULL, 0, in, in_bytes)
#define RUN_OUT(rig, out, out_bytes, ...) rig_run(rig, CDB(__VA_ARGS__), out, out_bytes, NULL, 0)

struct scsi_sense rig_sense(const struct scsi_cmd *cmd); /* zeroes: none */
bool rig_sense_is(const struct scsi_cmd *cmd, struct scsi_sense sense); /* and CHECK CONDITION */

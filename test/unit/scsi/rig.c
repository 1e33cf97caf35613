/* rig.c -- a logical unit on a medium in memory, and commands run at it in a coroutine. */
#include "rig.h"
#include "base/iov.h"
#include "base/mem.h"
#include "co/co.h"
#include <errno.h>
#include <string.h>

enum { CANARY_BYTES = 64, CANARY = 0xe7, PIECES = 4 };

struct rig_home {
    struct co_sched sched;
    struct rig *rig;
};

/* ---- the medium ---- */

ANY_THREAD
static uint64_t medium_bytes(void *medium)
{
    return ((struct rig *)medium)->bytes;
}

static int note_op(struct rig *rig, enum rig_op op, uint64_t offset, uint64_t bytes)
{
    rig->calls[op]++;
    rig->offset = offset;
    rig->op_bytes = bytes;
    if (op != RIG_FLUSH) {
        assert(range_is_inside(offset, bytes, rig->bytes));
        assert(bytes > 0);
    }
    return rig->fail[op];
}

CO_FN
static int medium_preadv(void *medium, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                         size_t count)
{
    struct rig *rig = medium;
    int rc = note_op(rig, RIG_READ, offset, bytes);

    rig->iov = iov;
    rig->iov_count = count;
    assert(iov_bytes(iov, count) == bytes);
    if (rc == 0 && rig->store != NULL) {
        iov_copy_in(iov, count, 0, rig->store + offset, (size_t)bytes);
    }
    return rc;
}

CO_FN
static int medium_pwritev(void *medium, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                          size_t count, unsigned flags)
{
    struct rig *rig = medium;
    int rc = note_op(rig, RIG_WRITE, offset, bytes);

    rig->iov = iov;
    rig->iov_count = count;
    rig->flags = flags;
    assert(iov_bytes(iov, count) == bytes);
    if (rc == 0 && rig->store != NULL) {
        iov_copy_out(iov, count, 0, rig->store + offset, (size_t)bytes);
    }
    return rc;
}

CO_FN
static int medium_flush(void *medium)
{
    return note_op(medium, RIG_FLUSH, 0, 0);
}

CO_FN
static int medium_discard(void *medium, uint64_t offset, uint64_t bytes)
{
    struct rig *rig = medium;
    int rc = note_op(rig, RIG_DISCARD, offset, bytes);

    if (rc == 0 && rig->store != NULL) {
        memset(rig->store + offset, 0, (size_t)bytes);
    }
    return rc;
}

CO_FN
static int medium_write_zeroes(void *medium, uint64_t offset, uint64_t bytes, unsigned flags)
{
    struct rig *rig = medium;
    int rc = note_op(rig, RIG_ZEROES, offset, bytes);

    rig->flags = flags;
    if (rc == 0 && rig->store != NULL) {
        memset(rig->store + offset, 0, (size_t)bytes);
    }
    return rc;
}

static const struct scsi_medium_ops medium_ops = {
    .bytes = medium_bytes,
    .co_preadv = medium_preadv,
    .co_pwritev = medium_pwritev,
    .co_flush = medium_flush,
    .co_discard = medium_discard,
    .co_write_zeroes = medium_write_zeroes,
};

/* ---- the rig ---- */

struct scsi_lu_config rig_config(void)
{
    return (struct scsi_lu_config){
        .logical_block_bytes = 512,
        .physical_block_bytes = 512,
        .max_unmap_bytes = 1 << 30,
        .max_io_bytes = INT32_MAX,
        .write_cache = true,
        .dpofua = true,
        .thin = true,
        .vendor = "CAISSON",
        .product = "VIRTUAL DISK",
        .version = "1.0",
        .serial = "S4711",
    };
}

ANY_THREAD
static void home_ready(struct co_sched *sched, struct co *co)
{
    struct rig *rig = container_of(sched, struct rig_home, sched)->rig;

    assert(rig->ready == NULL); /* a rig runs one command at a time */
    rig->ready = co;
}

void rig_init_huge(struct rig *rig, uint64_t bytes, const struct scsi_lu_config *config)
{
    struct scsi_lu_config standard = rig_config();
    struct scsi_sense power_on;
    struct err *err = NULL;

    *rig = (struct rig){.bytes = bytes, .home = mem_new(struct rig_home)};
    rig->home->rig = rig;
    co_sched_init(&rig->home->sched, home_ready);
    if (scsi_lu_new(config != NULL ? config : &standard, &medium_ops, rig, &rig->lu, &err) < 0) {
        panic("%s", err->text);
    }
    rig->port = scsi_port_new(rig->lu, 0, 0);
    assert(scsi_port_take_ua(rig->port, &power_on));
}

void rig_init(struct rig *rig, uint64_t bytes, const struct scsi_lu_config *config)
{
    rig_init_huge(rig, bytes, config);
    rig->store = mem_alloc(bytes);
    for (uint64_t i = 0; i < bytes; i++) {
        rig->store[i] = (uint8_t)(i ^ i >> 9 ^ 0x80);
    }
}

void rig_fini(struct rig *rig)
{
    scsi_port_free(rig->port);
    scsi_lu_free(rig->lu);
    mem_free(rig->store);
    mem_free(rig->home);
}

void rig_forget(struct rig *rig)
{
    memset(rig->calls, 0, sizeof(rig->calls));
    memset(rig->fail, 0, sizeof(rig->fail));
    rig->flags = 0;
}

/* ---- commands ---- */

struct run {
    struct rig *rig;
    struct scsi_cmd *cmd;
    bool done;
};

CO_FN
static void run_in_coroutine(void *opaque)
{
    struct run *run = opaque;

    scsi_co_execute(run->rig->port, run->cmd);
    run->done = true;
}

/* A buffer with canaries around it, as a list of uneven pieces, one of them empty. */
struct buffer {
    uint8_t *memory;
    size_t bytes;
    struct iovec iov[PIECES];
};

static void buffer_init(struct buffer *buffer, const void *data, size_t bytes)
{
    size_t first = bytes / 3, second = (bytes - first) / 2;
    uint8_t *at;

    buffer->bytes = bytes;
    buffer->memory = mem_alloc(bytes + 2 * CANARY_BYTES);
    memset(buffer->memory, CANARY, bytes + 2 * CANARY_BYTES);
    at = buffer->memory + CANARY_BYTES;
    if (data != NULL && bytes > 0) {
        memcpy(at, data, bytes);
    }
    buffer->iov[0] = (struct iovec){at, first};
    buffer->iov[1] = (struct iovec){at + first, 0};
    buffer->iov[2] = (struct iovec){at + first, second};
    buffer->iov[3] = (struct iovec){at + first + second, bytes - first - second};
}

static void check_canaries(const uint8_t *at, size_t bytes)
{
    assert(at[0] == CANARY);
    assert(memcmp(at, at + 1, bytes - 1) == 0);
}

/* Only the first @filled bytes of data-in may have been written. */
static void buffer_check(const struct buffer *buffer, size_t filled)
{
    check_canaries(buffer->memory, CANARY_BYTES);
    check_canaries(buffer->memory + CANARY_BYTES + filled, buffer->bytes - filled + CANARY_BYTES);
}

static void check_answer(const struct scsi_cmd *cmd)
{
    assert(cmd->status == SCSI_GOOD || cmd->status == SCSI_CHECK_CONDITION);
    assert((cmd->status == SCSI_CHECK_CONDITION) == (cmd->sense_bytes != 0));
    assert(cmd->sense_bytes == 0 || (cmd->sense_bytes == 18 && cmd->sense[0] == 0x70));
    assert(cmd->status == SCSI_GOOD || cmd->transferred == 0);
}

static void fill_cmd(struct scsi_cmd *cmd, uint8_t *full_cdb, const uint8_t *cdb, size_t cdb_bytes,
                     const struct buffer *out, const struct buffer *in)
{
    memset(full_cdb, 0, SCSI_CDB_BYTES_MAX);
    memcpy(full_cdb, cdb, cdb_bytes);
    memset(cmd, 0xaa, sizeof(*cmd)); /* the answer has no defaults */
    cmd->cdb = full_cdb;
    cmd->data_out = out->iov;
    cmd->data_out_count = out->bytes > 0 ? PIECES : 0;
    cmd->data_out_bytes = out->bytes;
    cmd->data_in = in->iov;
    cmd->data_in_count = in->bytes > 0 ? PIECES : 0;
    cmd->data_in_bytes = in->bytes;
}

/* @port NULL: it was the target's. What moved must have moved the way that the CDB says. */
static void finish(const struct scsi_port *port, struct scsi_cmd *cmd, struct buffer *out,
                   struct buffer *in, void *ret_in)
{
    uint64_t wanted;
    enum scsi_direction direction = scsi_cmd_transfer(port, cmd->cdb, &wanted);
    size_t received = direction == SCSI_DATA_IN ? cmd->transferred : 0;

    check_answer(cmd);
    assert(cmd->transferred <= wanted);
    assert(direction != SCSI_DATA_IN || cmd->transferred <= in->bytes);
    assert(direction != SCSI_DATA_OUT || cmd->transferred <= out->bytes);
    buffer_check(out, out->bytes);
    buffer_check(in, received);
    if (ret_in != NULL) {
        memset(ret_in, 0, in->bytes);
        memcpy(ret_in, in->memory + CANARY_BYTES, received);
    }
    mem_free(out->memory);
    mem_free(in->memory);
    cmd->cdb = NULL; /* none of it outlives this call */
    cmd->data_in = cmd->data_out = NULL;
}

struct scsi_cmd rig_run(struct rig *rig, const uint8_t *cdb, size_t cdb_bytes, const void *out,
                        size_t out_bytes, void *in, size_t in_bytes)
{
    uint8_t full_cdb[SCSI_CDB_BYTES_MAX];
    struct buffer out_buffer, in_buffer;
    struct scsi_cmd cmd;
    struct run run = {.rig = rig, .cmd = &cmd};

    buffer_init(&out_buffer, out, out_bytes);
    buffer_init(&in_buffer, NULL, in_bytes);
    fill_cmd(&cmd, full_cdb, cdb, cdb_bytes, &out_buffer, &in_buffer);
    rig->turns = 0;
    co_start(co_new(run_in_coroutine, &run, &rig->home->sched, "scsi test"));
    while (rig->ready != NULL) {
        rig->turns++;
        co_resume(take(&rig->ready));
    }
    assert(run.done);
    finish(rig->port, &cmd, &out_buffer, &in_buffer, in);
    return cmd;
}

struct scsi_cmd rig_run_target(struct scsi_table *table, uint8_t target, uint16_t lun,
                               const uint8_t *cdb, size_t cdb_bytes, void *in, size_t in_bytes)
{
    uint8_t full_cdb[SCSI_CDB_BYTES_MAX];
    struct buffer out_buffer, in_buffer;
    struct scsi_cmd cmd;

    buffer_init(&out_buffer, NULL, 0);
    buffer_init(&in_buffer, NULL, in_bytes);
    fill_cmd(&cmd, full_cdb, cdb, cdb_bytes, &out_buffer, &in_buffer);
    {
        RCU_READ_SCOPE();
        scsi_target_execute(table, target, lun, &cmd);
    }
    finish(NULL, &cmd, &out_buffer, &in_buffer, in);
    return cmd;
}

struct scsi_sense rig_sense(const struct scsi_cmd *cmd)
{
    if (cmd->sense_bytes == 0) {
        return SCSI_NO_SENSE;
    }
    return (struct scsi_sense){cmd->sense[2], cmd->sense[12], cmd->sense[13]};
}

bool rig_sense_is(const struct scsi_cmd *cmd, struct scsi_sense sense)
{
    struct scsi_sense is = rig_sense(cmd);

    return cmd->status == SCSI_CHECK_CONDITION && is.key == sense.key && is.asc == sense.asc &&
           is.ascq == sense.ascq;
}

/*
 * fuzz_cdb.c -- any bytes as SCSI commands, at a logical unit and at its target.
 *
 * An input is a byte of properties and then commands: a byte of circumstances, room for data-in (16
 * bits), length of data-out (16 bits), the CDB (16 bytes), the data-out. The rig asserts what must
 * hold of any answer; here, that a command that failed changed nothing.
 */
#include "fuzz.h"
#include "rig.h"
#include "base/mem.h"
#include <errno.h>

enum { DISK_BYTES = 16 << 10, DATA_BYTES_MAX = 5120, COMMANDS_MAX = 12 };

enum { /* properties */
    READ_ONLY = 1, NO_CACHE = 2, NO_DPOFUA = 4, THICK = 8, BLOCKS_4K = 16, SMALL_LIMITS = 32,
    READS_ZERO = 64, NO_SERIAL = 128,
};
enum { /* circumstances */
    AT_TARGET = 1, AT_OTHER_LUN = 2, RAISE_UA = 4, MEDIUM_FAILS = 8, NO_MEMORY = 16,
};

static struct scsi_lu_config make_config(uint8_t properties)
{
    struct scsi_lu_config config = rig_config();

    config.read_only = (properties & READ_ONLY) != 0;
    config.write_cache = (properties & NO_CACHE) == 0;
    config.dpofua = (properties & NO_DPOFUA) == 0;
    config.thin = (properties & THICK) == 0;
    config.discard_reads_zero = (properties & READS_ZERO) != 0;
    if ((properties & BLOCKS_4K) != 0) {
        config.logical_block_bytes = config.physical_block_bytes = 4096;
    }
    if ((properties & SMALL_LIMITS) != 0) {
        config.max_unmap_bytes = config.max_io_bytes = 8192;
    }
    if ((properties & NO_SERIAL) != 0) {
        config.serial[0] = '\0';
    }
    return config;
}

ON_MAIN
static void run_at_unit(struct rig *rig, uint8_t how, const uint8_t *cdb, const uint8_t *out,
                        size_t out_bytes, uint8_t *in, size_t in_bytes)
{
    static uint8_t before[DISK_BYTES];
    struct scsi_cmd cmd;

    rig_forget(rig);
    for (int op = 0; op < RIG_OP_MAX_; op++) {
        rig->fail[op] = (how & MEDIUM_FAILS) != 0 ? -EIO : 0;
    }
    memcpy(before, rig->store, DISK_BYTES);
    mem_fail_nth((how & NO_MEMORY) != 0 ? 1 : 0);
    cmd = rig_run(rig, cdb, 16, out, out_bytes, in, in_bytes);
    mem_fail_nth(0);
    if (cmd.status != SCSI_GOOD) {
        assert(memcmp(before, rig->store, DISK_BYTES) == 0);
    }
    assert((cmd.medium_errno == 0) || (how & (MEDIUM_FAILS | NO_MEMORY)) != 0);
}

ON_MAIN
static void run_one(struct rig *rig, struct scsi_table *table, struct fuzz_input *input)
{
    static uint8_t in[DATA_BYTES_MAX], out[DATA_BYTES_MAX];
    uint8_t how = fuzz_u8(input), cdb[16];
    size_t in_bytes = fuzz_u16(input) % DATA_BYTES_MAX;
    size_t out_bytes = fuzz_u16(input) % DATA_BYTES_MAX;

    fuzz_take(input, cdb, sizeof(cdb));
    fuzz_take(input, out, out_bytes);
    if ((how & RAISE_UA) != 0) {
        scsi_port_raise_ua(rig->port, (enum scsi_ua)(cdb[15] % SCSI_UA_MAX_));
    }
    if ((how & AT_TARGET) != 0) {
        uint16_t lun = (how & AT_OTHER_LUN) != 0 ? SCSI_LUN_WELL_KNOWN_REPORT : 0;

        rig_run_target(table, 0, lun, cdb, sizeof(cdb), in, in_bytes);
    } else {
        run_at_unit(rig, how, cdb, out, out_bytes, in, in_bytes);
    }
}

ON_MAIN
static void run_all(struct fuzz_input *input)
{
    struct scsi_lu_config config = make_config(fuzz_u8(input));
    struct rig rig;
    struct scsi_slot slot;
    struct scsi_table *table = scsi_table_new();

    rig_init(&rig, DISK_BYTES, &config);
    slot = (struct scsi_slot){0, 1, rig.port};
    if (scsi_table_publish(table, &slot) < 0) {
        panic("an empty table is full");
    }
    for (int i = 0; i < COMMANDS_MAX && input->left > 0; i++) {
        run_one(&rig, table, input);
    }
    scsi_table_unpublish(table, &slot);
    scsi_table_free(table); /* nobody else reads */
    rig_fini(&rig);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    void (*run)(struct fuzz_input *) = run_all; /* this thread is the main loop, if anything is */
    struct fuzz_input input = {data, bytes};

    if (!rcu_thread_is_registered()) {
        rcu_thread_register();
    }
    run(&input);
    return 0;
}

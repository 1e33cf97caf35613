/*
 * scenario_scsi.c -- unit attentions and the LUN table of scsi/, under every schedule.
 *
 * RACES 52, R3: two queues look for a unit attention at once while a third party raises another.
 * RACES 50, 51: REPORT LUNS and a lookup while a LUN is plugged and another unplugged.
 * R5: who ends REPORTED LUNS DATA HAS CHANGED has seen the change, if publish comes before raise.
 */
#include "explore.h"
#include "base/mem.h"
#include "co/co.h"
#include "scsi/lu_int.h"
#include "scsi/target.h"
#include "sync/atomic.h"
#include "sync/rcu.h"

/* Nothing here is long enough to give others a turn. */
CO_FN
void co_yield_turn(void)
{
    explore_fail("no command here yields");
}

/* ---- the disk: none of it is used but its existence ---- */

static uint64_t no_bytes(void *medium)
{
    return 0;
}
static const struct scsi_medium_ops no_ops = {.bytes = no_bytes};

static struct scsi_lu *lu;
static struct scsi_port *port;

static void make_port(void)
{
    const struct scsi_lu_config config = {.logical_block_bytes = 512, .physical_block_bytes = 512};
    int (*lu_new)(const struct scsi_lu_config *, const struct scsi_medium_ops *, void *,
                  struct scsi_lu **, struct err **) = scsi_lu_new;
    struct scsi_port *(*port_new)(struct scsi_lu *, uint8_t, uint16_t) = scsi_port_new;

    mem_free(port);
    mem_free(lu);
    explore_check(lu_new(&config, &no_ops, NULL, &lu, NULL) == 0);
    port = port_new(lu, 0, 0);
    port->ua = 0;
}

/* ---- unit attentions ---- */

static unsigned taken[SCSI_UA_MAX_];

static void note_taken(struct scsi_sense sense)
{
    taken[sense.asc == 0x3f   ? SCSI_UA_REPORTED_LUNS_CHANGED
          : sense.ascq == 0x09 ? SCSI_UA_CAPACITY_CHANGED
                               : SCSI_UA_MODE_PARAMETERS_CHANGED]++;
}

static void ua_setup(void)
{
    make_port();
    for (unsigned i = 0; i < SCSI_UA_MAX_; i++) {
        taken[i] = 0;
    }
    scsi_port_raise_ua(port, SCSI_UA_CAPACITY_CHANGED);
}

static void ua_actor(unsigned i)
{
    struct scsi_sense sense;

    if (i == 2) {
        scsi_port_raise_ua(port, SCSI_UA_MODE_PARAMETERS_CHANGED);
    } else if (scsi_port_take_ua(port, &sense)) {
        note_taken(sense);
    }
}

/* Each was taken once or is still there, never both, never twice. */
static void ua_check(void)
{
    struct scsi_sense sense;

    while (scsi_port_take_ua(port, &sense)) {
        note_taken(sense);
    }
    explore_check(taken[SCSI_UA_CAPACITY_CHANGED] == 1);
    explore_check(taken[SCSI_UA_MODE_PARAMETERS_CHANGED] == 1);
}

/* As a former generation did it: look, then clear what was seen. */
static void ua_actor_broken(unsigned i)
{
    uint32_t pending;

    if (i == 2) {
        scsi_port_raise_ua(port, SCSI_UA_MODE_PARAMETERS_CHANGED);
        return;
    }
    pending = at_load(&port->ua);
    if (pending != 0) {
        at_store(&port->ua, pending & (pending - 1));
        taken[__builtin_ctz(pending)]++;
    }
}

/* ---- REPORT LUNS against plug and unplug ---- */

static struct scsi_table *table;
static struct scsi_slot slots[3];

static int publish(unsigned i)
{
    int (*fn)(struct scsi_table *, struct scsi_slot *) = scsi_table_publish;

    return fn(table, &slots[i]);
}

static void unpublish(unsigned i)
{
    void (*fn)(struct scsi_table *, struct scsi_slot *) = scsi_table_unpublish;

    fn(table, &slots[i]);
}

/* LUNs 0 and 1 are there, LUN 2 is not. */
static void luns_setup(void)
{
    struct scsi_table *(*table_new)(void) = scsi_table_new;

    make_port();
    rcu_thread_register();
    table = table_new();
    for (unsigned i = 0; i < 3; i++) {
        slots[i] = (struct scsi_slot){0, (uint16_t)i, port};
    }
    explore_check(publish(0) == 0);
    explore_check(publish(1) == 0);
}

/* The LUNs of a list as bits. Its length must be what follows, and nothing else. */
static unsigned report_luns(void)
{
    uint8_t cdb[SCSI_CDB_BYTES_MAX] = {0xa0, [9] = 64}, in[64] = {0};
    struct iovec iov = {in, sizeof(in)};
    struct scsi_cmd cmd = {.cdb = cdb, .data_in = &iov, .data_in_count = 1, .data_in_bytes = 64};
    unsigned luns = 0;

    rcu_read_enter();
    scsi_target_execute(table, 0, 0, &cmd);
    rcu_read_leave();
    explore_check(cmd.status == SCSI_GOOD);
    explore_check(cmd.transferred == 8 + be32_load(in));
    for (size_t at = 8; at < cmd.transferred; at += 8) {
        luns |= 1u << be16_load(in + at);
    }
    explore_check((unsigned)__builtin_popcount(luns) * 8 == be32_load(in));
    return luns;
}

static void luns_actor(unsigned i)
{
    struct scsi_slot *slot;
    unsigned luns;

    rcu_thread_register();
    if (i == 0) {
        explore_check(publish(2) == 0);
        unpublish(0);
    } else {
        luns = report_luns();
        explore_check(luns == 3 || luns == 7 || luns == 6); /* one of the three versions */
        rcu_read_enter();
        slot = scsi_table_find(table, 0, 1); /* stays all the while */
        explore_check(slot == &slots[1]);
        slot = scsi_table_find(table, 0, 2);
        explore_check(slot == NULL || slot == &slots[2]);
        rcu_read_leave();
    }
    rcu_thread_unregister();
}

/* ---- R5: told only after it can be found ---- */

static unsigned seen;

static void tell_setup(void)
{
    luns_setup();
    seen = 0;
}

static void tell_actor(unsigned i)
{
    rcu_thread_register();
    if (i == 0) {
        explore_check(publish(2) == 0);
        scsi_port_raise_ua(port, SCSI_UA_REPORTED_LUNS_CHANGED);
    } else {
        seen = report_luns();
    }
    rcu_thread_unregister();
}

static void tell_actor_broken(unsigned i)
{
    rcu_thread_register();
    if (i == 0) {
        scsi_port_raise_ua(port, SCSI_UA_REPORTED_LUNS_CHANGED);
        explore_check(publish(2) == 0);
    } else {
        seen = report_luns();
    }
    rcu_thread_unregister();
}

/* The new LUN was listed, or the attention is there to say that the list is old. */
static void tell_check(void)
{
    struct scsi_sense sense;

    explore_check((seen & 4) != 0 || scsi_port_peek_ua(port, &sense));
}

int main(int argc, char **argv)
{
    static const struct explore_scenario scenarios[] = {
        {"ua", 3, ua_actor, ua_setup, ua_check, .must_finish = true},
        {"ua-broken", 3, ua_actor_broken, ua_setup, ua_check, .must_fail = "== 1"},
        {"luns", 2, luns_actor, luns_setup, .schedules = 30000},
        {"tell", 2, tell_actor, tell_setup, tell_check, .schedules = 30000},
        {"tell-broken", 2, tell_actor_broken, tell_setup, tell_check, .must_fail = "seen & 4"},
    };

    return explore_main(argc, argv, scenarios, countof(scenarios));
}

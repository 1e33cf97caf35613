/*
 * caisson_sim.c -- the whole daemon on virtual time: `caisson-sim --seed N`.
 *
 * One task is the daemon, booted by its command line. Another is a guest, which writes and verifies
 * one disk over two queues, dies and comes back. A third is the operator, who plugs and unplugs
 * other disks meanwhile, and quits when the guest is done. Every answer is checked. The last line
 * is the trace hash; exit status 1, with the reason on standard error, when anything is wrong.
 */
#include "base/mem.h"
#include "cli/daemon.h"
#include "os/file.h"
#include "os/process.h"
#include "sim/guest.h"
#include "sim/qmp_client.h"
#include "sim/sim.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REPLUGS = 5 };

static int daemon_status = -1;
static bool guest_is_done, hba_is_there, expects_errors;
static uint64_t guest_away_ns;
static struct guest_report guest_report;

static void check(bool condition, const char *what)
{
    if (!condition) {
        panic("simulated operator: %s", what);
    }
}

/* Half of the seeds run disk I/O on the engine, half on the worker pool. */
TSA_TRUST
static void run_daemon(void *opaque)
{
    char *disk = sim_random() % 2 ? "file,node-name=f0,filename=/disk.img,aio=io_uring"
                                  : "file,node-name=f0,filename=/disk.img,aio=threads";
    char *argv[] = {
        "daemon",
        "--object", "iothread,id=io0",
        "--object", "iothread,id=io1",
        "--blockdev", disk,
        "--blockdev", "null-co,node-name=n0,size=64M",
        "--chardev", "socket,id=ctl,path=/ctl.sock,server=on,wait=off",
        "--monitor", "chardev=ctl",
        "--export", "type=vhost-user-scsi,id=hba0,addr.type=unix,addr.path=/hba.sock,num-queues=2,"
                    "iothread.0=io0,iothread.1=io1",
        "--device", "scsi-hd,id=disk0,bus=hba0.0,drive=f0,lun=0",
        "--device", "scsi-hd,id=disk1,bus=hba0.0,drive=n0,lun=1",
        "--pidfile", "/caisson.pid",
        NULL,
    };

    daemon_status = cli_daemon_main((int)countof(argv) - 1, argv);
}

/* Does query-scsi-devices list @id? */
static bool has_device(struct qmp_client *client, const char *id)
{
    json_t *list = qmp_client_must(client, "query-scsi-devices", NULL), *device;
    size_t i;
    bool found = false;

    json_array_foreach(list, i, device) {
        const char *name = json_string_value(json_object_get(device, "id"));

        found |= name != NULL && strcmp(name, id) == 0;
    }
    json_decref(list);
    return found;
}

static void check_error_class(json_t *reply, const char *class)
{
    const char *is = json_string_value(json_object_get(json_object_get(reply, "error"), "class"));

    check(is != NULL && strcmp(is, class) == 0, class);
    json_decref(reply);
}

static void unplug(struct qmp_client *client, const char *id)
{
    json_t *event;
    const char *device = NULL;

    json_decref(qmp_client_must(client, "device_del", "{s:s}", "id", id));
    check(!has_device(client, id) || json_array_size(client->events) == 0, "unpublished at once");
    do { /* one with a path alone may come for an unnamed child; ours is named */
        event = qmp_client_event(client, "DEVICE_DELETED");
        check(event != NULL, "DEVICE_DELETED");
        device = json_string_value(json_object_get(json_object_get(event, "data"), "device"));
    } while (device == NULL && (json_decref(event), true));
    check(strcmp(device, id) == 0, "the device's own event");
    json_decref(event);
    check(!has_device(client, id), "gone after its event");
}

/* ---- the guest ---- */

static bool hba_exists(void *opaque)
{
    return hba_is_there;
}

static bool guest_has_ended(void *opaque)
{
    return guest_is_done;
}

static void run_guest(void *opaque)
{
    const struct guest_config config = {.path = "/hba.sock",
                                        .queues = 2,
                                        .blocks = 1024,
                                        .requests = 600,
                                        .restarts = 3,
                                        .away_ns = guest_away_ns,
                                        .expects_errors = expects_errors};

    sim_wait(hba_exists, NULL, UINT64_MAX, "the HBA");
    guest_report = guest_run(&config);
    guest_is_done = true;
}

/* ---- the operator ---- */

static void replug(struct qmp_client *client, unsigned round)
{
    char id[16];

    snprintf(id, sizeof(id), "disk%u", 2 + round);
    json_decref(qmp_client_must(client, "device_add", "{s:s,s:s,s:s,s:s,s:i}", "driver", "scsi-hd",
                                "id", id, "bus", "hba0.0", "drive", "n0", "lun", 2));
    check(has_device(client, id), "the new disk is there");
    sim_sleep(sim_random() % 3000000);
    unplug(client, id);
}

static void look_around(struct qmp_client *client)
{
    json_t *version = qmp_client_must(client, "query-version", NULL);

    check(json_object_get(json_object_get(version, "qemu"), "major") != NULL, "a version");
    json_decref(version);
    check(has_device(client, "disk0") && has_device(client, "disk1"), "both disks are there");
}

static void operate(void *opaque)
{
    struct qmp_client client;

    qmp_client_open(&client, "/ctl.sock");
    hba_is_there = true;
    look_around(&client);
    unplug(&client, "disk1");
    check_error_class(qmp_client_run(&client, "device_del", "{s:s}", "id", "disk1"),
                      "DeviceNotFound");
    for (unsigned round = 0; round < REPLUGS; round++) {
        replug(&client, round);
    }
    check(has_device(&client, "disk0"), "the guest's disk stays");
    sim_wait(guest_has_ended, NULL, UINT64_MAX, "the guest");
    json_decref(qmp_client_must(&client, "quit", NULL));
    qmp_client_close(&client);
}

/* ---- the run ---- */

static void program(void *opaque)
{
    sim_file_create("/disk.img", 16 << 20);
    sim_task_start("operator", operate, NULL);
    sim_task_start("guest", run_guest, NULL);
    run_daemon(NULL);
    if (daemon_status != DAEMON_OK) {
        os_exit(1);
    }
}

static void print_guest_report(void)
{
    const struct guest_report *r = &guest_report;

    printf("guest: %u reads, %u writes, %u blocks verified, %u other requests, %u unit attentions, "
           "%u aborted, %u failed, %u events\n",
           r->reads, r->writes, r->verified, r->others, r->unit_attentions, r->aborted, r->failed,
           r->events);
}

static void usage(void)
{
    fputs("usage: caisson-sim [--seed N] [--fail-nth N] [--fail-per-million N] [--fail-only GLOB] "
          "[--away-ms N]\n",
          stderr);
    exit(2);
}

int main(int argc, char **argv)
{
    struct sim_config config = {.seed = 1};
    int status;

    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc) {
            usage();
        } else if (strcmp(argv[i], "--seed") == 0) {
            config.seed = strtoull(argv[i + 1], NULL, 0);
        } else if (strcmp(argv[i], "--fail-nth") == 0) {
            config.faults.nth = strtoull(argv[i + 1], NULL, 0);
        } else if (strcmp(argv[i], "--fail-per-million") == 0) {
            config.faults.per_million = (unsigned)strtoul(argv[i + 1], NULL, 0);
        } else if (strcmp(argv[i], "--fail-only") == 0) {
            config.faults.only = argv[i + 1];
        } else if (strcmp(argv[i], "--away-ms") == 0) { /* between two lives of the guest */
            guest_away_ns = strtoull(argv[i + 1], NULL, 0) * 1000000;
        } else {
            usage();
        }
    }
    expects_errors = config.faults.nth != 0 || config.faults.per_million != 0;
    status = sim_run(&config, program, NULL);
    print_guest_report();
    printf("%u steps, %u faults\n", sim_steps(), sim_faults_injected());
    printf("trace hash: %016" PRIx64 "\n", sim_trace_hash());
    return status != 0;
}

/*
 * caisson_sim.c -- the whole daemon on virtual time: `caisson-sim --seed N`.
 *
 * One task is the daemon, booted by its command line; another is its operator, who looks around, unplugs
 * a disk and quits. Every answer is checked. The last line is the trace hash; exit status 1, with the
 * reason on standard error, when anything is wrong.
 */
#include "base/mem.h"
#include "cli/daemon.h"
#include "os/file.h"
#include "os/process.h"
#include "sim/qmp_client.h"
#include "sim/sim.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int daemon_status = -1;

static void check(bool condition, const char *what)
{
    if (!condition) {
        panic("simulated operator: %s", what);
    }
}

TSA_TRUST
static void run_daemon(void *opaque)
{
    char *argv[] = {
        "daemon",
        "--object", "iothread,id=io0",
        "--object", "iothread,id=io1",
        "--blockdev", "file,node-name=f0,filename=/disk.img",
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

static void operate(void *opaque)
{
    struct qmp_client client;
    json_t *version;

    qmp_client_open(&client, "/ctl.sock");
    version = qmp_client_must(&client, "query-version", NULL);
    check(json_object_get(json_object_get(version, "qemu"), "major") != NULL, "a version");
    json_decref(version);
    check(has_device(&client, "disk0") && has_device(&client, "disk1"), "both disks are there");
    unplug(&client, "disk0");
    check(has_device(&client, "disk1"), "the other disk stays");
    check_error_class(qmp_client_run(&client, "device_del", "{s:s}", "id", "disk0"),
                      "DeviceNotFound");
    json_decref(qmp_client_must(&client, "device_add", "{s:s,s:s,s:s,s:s}", "driver", "scsi-hd",
                                "id", "disk2", "bus", "hba0.0", "drive", "f0"));
    check(has_device(&client, "disk2"), "the new disk is there");
    json_decref(qmp_client_must(&client, "quit", NULL));
    qmp_client_close(&client);
}

static void program(void *opaque)
{
    sim_file_create("/disk.img", 16 << 20);
    sim_task_start("operator", operate, NULL);
    run_daemon(NULL);
    if (daemon_status != DAEMON_OK) {
        os_exit(1);
    }
}

static void usage(void)
{
    fputs("usage: caisson-sim [--seed N] [--fail-nth N] [--fail-per-million N] [--fail-only GLOB]\n",
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
        } else {
            usage();
        }
    }
    status = sim_run(&config, program, NULL);
    printf("%u steps, %u faults\n", sim_steps(), sim_faults_injected());
    printf("trace hash: %016" PRIx64 "\n", sim_trace_hash());
    return status != 0;
}

/*
 * device.c -- the devices there are, from device_add to DEVICE_DELETED.
 *
 * (S1) NEW: id and address are taken, the drive is being attached (this yields). Nobody finds it
 *      but by id, and unplugging it is refused. A failure takes it off the list.
 * (S2) PLUGGED: published and then announced, in one stretch: the guest never hears of a device
 *      that it could not find (RACES R5).
 * (S3) UNPUBLISHED: device_del has returned. A round over the homes answers what is parked; it is
 *      also the grace period of all that looks a LUN up without a token (RACES R4).
 * (S4) DRAINING: its gate is closed and the last tokens are waited for. No new ones: nobody finds
 *      it.
 * (S5) DETACHING: RCU readers have left; port, logical unit and drive are let go.
 *      Then it leaves the list, the guest is told, and DEVICE_DELETED says that id, address and
 *      node are free: which by then they are.
 * Each state is left by one coroutine alone: that of device_add up to (S2), the unplug's
 * afterwards.
 */
#include <errno.h>
#include <string.h>
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "device/device_int.h"
#include "loop/loop.h"
#include "sync/rcu.h"

static const struct device_driver *const drivers[] = {&scsi_hd_driver};
static struct list devices = LIST_INIT(devices);
static struct co_queue state_changed = {LIST_INIT(state_changed.waiters)};
static unsigned anonymous_count;

static const struct opt device_opts[] = {
    {.name = "driver", .type = OPT_STR, OPT_AT(struct device_options, driver),
     .flags = OPT_REQUIRED, .since = "0.1", .help = "the device's type"},
    {.name = "id", .type = OPT_STR, OPT_AT(struct device_options, id), .since = "0.1",
     .help = "its name, for device_del; without one it is found by its path"},
    {.name = "bus", .type = OPT_STR, OPT_AT(struct device_options, bus), .since = "0.1",
     .help = "bus of a host adapter: the export's id with \".0\"; not needed if there is one"},
};
const struct opt_table device_options_table = {
    .name = "device",
    .opts = device_opts,
    .count = countof(device_opts),
    .values_bytes = sizeof(struct device_options),
};

static const struct opt device_deleted_members[] = {
    {.name = "device", .type = OPT_STR, .since = "0.1", .help = "its id, if it had one"},
    {.name = "path", .type = OPT_STR, .since = "0.1", .help = "its path"},
};
static const struct opt_table device_deleted_table = {
    .name = "DEVICE_DELETED",
    .opts = device_deleted_members,
    .count = countof(device_deleted_members),
};
const struct event_def device_deleted_event = {
    .name = "DEVICE_DELETED",
    .members = &device_deleted_table,
    .since = "0.1",
    .help = "a device is gone: its id, its address and its node are free",
};

/* ---- finding ------------------------------------------------------------------------------ */

MAIN_LOOP
static struct device *device_find(const char *id_or_path)
{
    struct device *device;

    list_for_each(device, &devices, link) {
        if (id_or_path[0] == '/' ? str_equal(device->path, id_or_path)
                                 : str_equal(device->id, id_or_path)) {
            return device;
        }
    }
    return NULL;
}

struct device *device_at(const struct hba *hba, uint8_t target, uint16_t lun)
{
    struct device *device;

    list_for_each(device, &devices, link) {
        if (device->hba == hba && device->target == target && device->lun == lun) {
            return device;
        }
    }
    return NULL;
}

const char *device_name(const struct device *device)
{
    return device->id != NULL ? device->id : device->path;
}

ANY_THREAD
static const struct device_driver *driver_find(const char *name)
{
    for (size_t i = 0; i < countof(drivers); i++) {
        if (str_equal(drivers[i]->name, name)) {
            return drivers[i];
        }
    }
    return NULL;
}

void device_driver_each(void (*each)(const char *name, const struct opt_table *properties,
                                     void *opaque),
                        void *opaque)
{
    for (size_t i = 0; i < countof(drivers); i++) {
        each(drivers[i]->name, drivers[i]->properties, opaque);
    }
}

void hba_each_device_id(struct hba *hba, void (*each)(const char *id, void *opaque), void *opaque)
{
    struct device *device;

    list_for_each(device, &devices, link) {
        if (device->hba == hba) {
            each(device_name(device), opaque);
        }
    }
}

size_t hba_device_count(const struct hba *hba)
{
    const struct device *device;
    size_t count = 0;

    list_for_each(device, &devices, link) {
        count += device->hba == hba;
    }
    return count;
}

/* ---- states ------------------------------------------------------------------------------- */

MAIN_LOOP
static void set_state(struct device *device, enum device_state state)
{
    TRACE(device_state, "%s %d -> %d", device_name(device), device->state, state);
    device->state = state;
    device->since_ns = loop_now_ns(LOOP_CLOCK_REALTIME);
    co_queue_wake_all(&state_changed);
}

MAIN_LOOP
static void device_free(struct device *device)
{
    list_remove(&device->link);
    opt_free_values(device->driver->properties, device->options);
    mem_free(device->options);
    mem_free(device->id);
    mem_free(device->path);
    mem_free(device);
    co_queue_wake_all(&state_changed);
}

struct grace {
    struct rcu_node rcu;
    struct co_wait wait;
};

MAIN_LOOP
static void grace_bh(void *opaque)
{
    struct grace *grace = opaque;

    co_wait_complete(&grace->wait, 0);
}

ANY_THREAD
static void grace_over(struct rcu_node *node)
{
    bh_once(loop_main(), grace_bh, container_of(node, struct grace, rcu), "device grace period");
}

CO_FN
static void co_grace_period(void)
{
    struct grace grace;

    co_wait_init(&grace.wait);
    rcu_call(&grace.rcu, grace_over);
    co_wait_block(&grace.wait);
}

/* ---- plug --------------------------------------------------------------------------------- */

MAIN_LOOP
static int bus_find(const struct device_options *options, struct hba **ret_hba, struct err **reterr)
{
    const char *bus = options->bus;
    size_t id_bytes = bus != NULL ? strlen(bus) : 0;
    AUTO_MEM char *id = mem_strdup(bus);

    if (bus == NULL) {
        *ret_hba = hba_only();
        if (*ret_hba != NULL) {
            return 0;
        }
        return err_set(reterr, EINVAL, "'bus' is missing, and there is not exactly one adapter "
                       "for '%s'; an export of type vhost-user-scsi with id X has bus 'X.0'",
                       options->driver);
    }
    if (id_bytes > 2 && str_equal(bus + id_bytes - 2, ".0")) {
        id[id_bytes - 2] = '\0';
        *ret_hba = hba_find(id);
        if (*ret_hba != NULL) {
            return 0;
        }
    }
    return err_set(reterr, EINVAL,
                   "Bus '%s' not found; an export of type vhost-user-scsi with id X has bus 'X.0'",
                   bus);
}

MAIN_LOOP
static int check_id(const struct device_options *options, struct err **reterr)
{
    const char *id = options->id;

    if (id == NULL) {
        return 0;
    }
    if (!str_is_wellformed_id(id)) {
        return err_set(reterr, EINVAL, "Invalid device id '%s': it must begin with a letter and "
                       "consist of letters, digits, '-', '.' and '_'", id);
    }
    if (device_find(id) != NULL) {
        return err_set(reterr, EEXIST, "Duplicate device ID '%s'", id);
    }
    return 0;
}

/* Takes over *@options on success. (S1) */
MAIN_LOOP
static int device_new(const struct device_driver *driver, struct device_options **options,
                      struct device **ret_device, struct err **reterr)
{
    struct hba *hba = NULL;
    struct device *device;
    int rc = check_id(*options, reterr);

    if (rc < 0 || (rc = bus_find(*options, &hba, reterr)) < 0) {
        return rc;
    }
    device = mem_alloc(driver->bytes);
    list_init(&device->link);
    device->driver = driver;
    device->hba = hba;
    device->options = take(options);
    device->id = mem_strdup(device->options->id);
    device->path = device->id != NULL
                       ? str_format("/machine/peripheral/%s", device->id)
                       : str_format("/machine/peripheral-anon/device[%u]", anonymous_count++);
    rc = driver->prepare(device, reterr);
    if (rc < 0) {
        device_free(device);
        return rc;
    }
    list_add_tail(&devices, &device->link);
    set_state(device, DEVICE_NEW);
    *ret_device = device;
    return 0;
}

MAIN_LOOP CO_FN
static int device_co_plug(struct device *device, struct err **reterr)
{
    int rc = device->driver->co_realize(device, reterr);

    if (rc < 0) {
        device_free(device);
        return rc;
    }
    rc = device->driver->publish(device, reterr);
    if (rc < 0) {
        device->driver->co_detach(device);
        device_free(device);
        return rc;
    }
    set_state(device, DEVICE_PLUGGED); /* (S2) */
    device->driver->announce(device);
    return 0;
}

MAIN_LOOP
static int options_parse(json_t *object, unsigned flags, const struct device_driver **ret_driver,
                         struct device_options **ret_options, struct err **reterr)
{
    const char *name = json_string_value(json_object_get(object, "driver"));
    struct device_options *options;
    int rc;

    if (name == NULL) {
        return err_set(reterr, EINVAL, "Parameter 'driver' is missing");
    }
    *ret_driver = driver_find(name);
    if (*ret_driver == NULL) {
        return err_set(reterr, EINVAL, "'%s' is not a valid device model name; there is 'scsi-hd'",
                       name);
    }
    options = mem_alloc((*ret_driver)->properties->values_bytes);
    rc = opt_parse((*ret_driver)->properties, object, flags, options, reterr);
    if (rc < 0) {
        mem_free(options);
        return rc;
    }
    *ret_options = options;
    return 0;
}

int device_co_add(json_t *options, unsigned flags, struct err **reterr)
{
    const struct device_driver *driver = NULL;
    struct device_options *values = NULL;
    struct device *device = NULL;
    int rc = options_parse(options, flags, &driver, &values, reterr);

    if (rc < 0) {
        return rc;
    }
    rc = device_new(driver, &values, &device, reterr);
    if (values != NULL) {
        opt_free_values(driver->properties, values);
        mem_free(values);
    }
    return rc < 0 ? rc : device_co_plug(device, reterr);
}

/* ---- unplug ------------------------------------------------------------------------------- */

MAIN_LOOP
static void emit_deleted(const char *id, const char *path)
{
    json_t *data = json_object();

    if (id != NULL) {
        json_object_set_new(data, "device", json_string(id));
    }
    json_object_set_new(data, "path", json_string(path));
    event_emit(&device_deleted_event, data);
}

MAIN_LOOP CO_FN
static void unplug_co(void *opaque)
{
    struct device *device = opaque;
    AUTO_MEM char *id = mem_strdup(device->id);
    AUTO_MEM char *path = mem_strdup(device->path);

    device->driver->co_purge(device);
    set_state(device, DEVICE_DRAINING);
    device->driver->co_drain(device);
    set_state(device, DEVICE_DETACHING);
    co_grace_period();
    device->driver->co_detach(device);
    device->driver->announce_gone(device);
    device_free(device);
    emit_deleted(id, path);
}

/* (S3) */
MAIN_LOOP
static void unplug_begin(struct device *device)
{
    device->driver->unpublish(device);
    set_state(device, DEVICE_UNPUBLISHED);
    loop_co_spawn(loop_main(), unplug_co, device, "device unplug");
}

int device_co_delete(const char *id, struct err **reterr)
{
    struct device *device = device_find(id);

    if (device == NULL) {
        return err_set_class(reterr, ERR_DEVICE_NOT_FOUND, ENOENT, "Device '%s' not found", id);
    }
    if (device->state == DEVICE_NEW) {
        return err_set(reterr, EBUSY, "Device %s is still being plugged", id);
    }
    if (device->state != DEVICE_PLUGGED) {
        return err_set(reterr, EBUSY, "Device %s is already in the process of unplug", id);
    }
    unplug_begin(device);
    return 0;
}

void device_co_wait_deleted(const char *id)
{
    while (device_find(id) != NULL) {
        co_queue_wait(&state_changed, NULL);
    }
}

void device_co_delete_all_of(struct hba *hba)
{
    while (hba_device_count(hba) > 0) {
        struct device *device;

        list_for_each(device, &devices, link) {
            if (device->hba == hba && device->state == DEVICE_PLUGGED) {
                unplug_begin(device);
            }
        }
        co_queue_wait(&state_changed, NULL);
    }
}

/* ---- for people --------------------------------------------------------------------------- */

ANY_THREAD
static const char *state_name(enum device_state state)
{
    static const char *const names[DEVICE_STATE_MAX_] = {
        [DEVICE_NEW] = "new",
        [DEVICE_PLUGGED] = "plugged",
        [DEVICE_UNPUBLISHED] = "unpublished",
        [DEVICE_DRAINING] = "draining",
        [DEVICE_DETACHING] = "detaching",
    };

    return names[state];
}

json_t *device_describe_scsi(void)
{
    json_t *array = json_array();
    struct device *device;

    list_for_each(device, &devices, link) {
        json_t *object = json_object();
        AUTO_MEM char *bus = str_format("%s.0", hba_id(device->hba));

        json_object_set_new(object, "id", json_string(device_name(device)));
        json_object_set_new(object, "type", json_string(device->driver->name));
        json_object_set_new(object, "bus", json_string(bus));
        json_object_set_new(object, "channel", json_integer(0));
        json_object_set_new(object, "scsi-id", json_integer(device->target));
        json_object_set_new(object, "lun", json_integer(device->lun));
        device->driver->describe(device, object);
        json_object_set_new(object, "state", json_string(state_name(device->state)));
        json_object_set_new(object, "since", json_real((double)device->since_ns / 1e9));
        json_array_append_new(array, object);
    }
    return array;
}

void device_describe_waits(json_t *to_array)
{
    struct device *device;

    list_for_each(device, &devices, link) {
        if (device->state > DEVICE_PLUGGED) {
            json_t *object = json_object();
            json_t *requests = json_array();
            AUTO_MEM char *owner = str_format("device_del '%s'", device_name(device));

            json_object_set_new(object, "kind", json_string("unplug"));
            json_object_set_new(object, "owner", json_string(owner));
            json_object_set_new(object, "device", json_string(device_name(device)));
            device->driver->describe(device, object);
            json_object_set_new(object, "state", json_string(state_name(device->state)));
            json_object_set_new(object, "since", json_real((double)device->since_ns / 1e9));
            device->driver->describe_requests(device, requests);
            json_object_set_new(object, "waits-for", requests);
            json_array_append_new(to_array, object);
        }
    }
}

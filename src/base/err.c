#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include <string.h>

static void set(struct err **reterr, enum err_class class, char *text)
{
    struct err *error;

    assert(*reterr == NULL);
    error = mem_new(struct err);
    error->class = class;
    error->text = text;
    *reterr = error;
}

int err_set(struct err **reterr, int errnum, const char *format, ...)
{
    assert(errnum > 0);
    if (reterr != NULL) {
        va_list args;

        va_start(args, format);
        set(reterr, ERR_GENERIC, str_vformat(format, args));
        va_end(args);
    }
    return -errnum;
}

int err_set_class(struct err **reterr, enum err_class class, int errnum, const char *format, ...)
{
    assert(errnum > 0);
    if (reterr != NULL) {
        va_list args;

        va_start(args, format);
        set(reterr, class, str_vformat(format, args));
        va_end(args);
    }
    return -errnum;
}

int err_set_errno(struct err **reterr, int errnum, const char *format, ...)
{
    assert(errnum > 0);
    if (reterr != NULL) {
        AUTO_MEM char *text = NULL;
        va_list args;

        va_start(args, format);
        text = str_vformat(format, args);
        va_end(args);
        set(reterr, ERR_GENERIC, str_format("%s: %s", text, strerror(errnum)));
    }
    return -errnum;
}

void err_prepend(struct err **reterr, const char *format, ...)
{
    if (reterr != NULL && *reterr != NULL) {
        AUTO_MEM char *front = NULL;
        char *whole;
        va_list args;

        va_start(args, format);
        front = str_vformat(format, args);
        va_end(args);
        whole = str_format("%s%s", front, (*reterr)->text);
        mem_free((*reterr)->text);
        (*reterr)->text = whole;
    }
}

void err_propagate(struct err **reterr, struct err *error)
{
    if (reterr != NULL && *reterr == NULL) {
        *reterr = error;
    } else {
        err_free(error);
    }
}

void err_free(struct err *error)
{
    if (error != NULL) {
        mem_free(error->text);
        mem_free(error);
    }
}

const char *err_class_name(enum err_class class)
{
    switch (class) {
    case ERR_GENERIC:
        return "GenericError";
    case ERR_COMMAND_NOT_FOUND:
        return "CommandNotFound";
    case ERR_DEVICE_NOT_FOUND:
        return "DeviceNotFound";
    case ERR_DEVICE_NOT_ACTIVE:
        return "DeviceNotActive";
    case ERR_CLASS_MAX_:
        break;
    }
    unreachable();
}

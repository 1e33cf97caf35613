/*
 * err.h -- errors as a person reads them.
 *
 * Control path only. Functions return a negative errno and, with a `struct err **reterr`,
 * leave a text there (on failure only; the caller owns it). A text names the culprit first (option,
 * id, path) and then what would be right: "device 'disk0': lun 3 is taken by 'disk7'".
 * The class is QMP's error class.
 */
#pragma once
#include "base/macros.h"
#include <stdarg.h>
#include "base/ctx.h"

CTX_ANY_BEGIN

enum err_class {
    ERR_GENERIC,           /* GenericError */
    ERR_COMMAND_NOT_FOUND, /* CommandNotFound */
    ERR_DEVICE_NOT_FOUND,  /* DeviceNotFound */
    ERR_DEVICE_NOT_ACTIVE, /* DeviceNotActive */
    ERR_CLASS_MAX_
};

struct err {
    enum err_class class;
    char *text;
};

/* Set *@reterr (may be NULL: nobody wants the text; must not hold an error yet). The first returns
 * -@errnum so that a caller can `return err_set(...)`; @errnum is positive. Any thread. */
printf_like(3, 4) int err_set(struct err **reterr, int errnum, const char *format, ...);
printf_like(4, 5) int err_set_class(struct err **reterr, enum err_class class, int errnum,
                                    const char *format, ...);

/* As err_set(), with ": " and the text of @errnum appended. */
printf_like(3, 4) int err_set_errno(struct err **reterr, int errnum, const char *format, ...);

/* Put text in front of *@reterr ("blockdev 'a': " …). Nothing if there is no error. */
printf_like(2, 3) void err_prepend(struct err **reterr, const char *format, ...);

/* Move @error (may be NULL) to *@reterr, or free it when @reterr is NULL or already set. */
void err_propagate(struct err **reterr, struct err *error);

void err_free(struct err *error); /* NULL is fine */
const char *err_class_name(enum err_class class);
DEFINE_AUTO(err)

CTX_ANY_END

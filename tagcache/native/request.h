/* Plain requests, as bytes. */

#ifndef TAGCACHE_REQUEST_H
#define TAGCACHE_REQUEST_H

#include "core.h"

/* Python handles longer keys. Twice the usual limit of a key. */
#define LONGEST_KEY 2048

/* Some bytes of the input. */
typedef struct {
    const char *start;
    size_t length;
} Part;

typedef struct {
    size_t length; /* of the whole request; 0: it is not plain, or not complete */
    enum verb verb;
    Part key, value;
    Part options; /* of a store, as text: see `server/commands` and `server/http` */
    bool has_escapes; /* the value has, in JSON */
    Part keys;    /* of LOOK_UP_MANY: bulk strings */
    Part step;    /* of INCR and DECR: decimal; empty for 1. Of TOUCH and EXPIRE: the time to live */
    size_t key_count;
} Request;

/* Read a bulk string, and move `*at` past it; false if it is not plain, or not complete. */
bool take_bulk(const char *input, size_t length, size_t *at, Part *bulk);

/* Read the request at the beginning of the input. */
Request read_line(const char *input, size_t length);
Request read_resp(const char *input, size_t length);

#endif

/* Reads plain requests of the line protocol and of RESP; each takes a time linear in its length. */

#include "request.h"

/* The arguments of a store in RESP. */
#define MOST_ARGUMENTS 40
/* Milliseconds; tagcache/model/fetched.py. */
#define MOST_LEASE_MS 3600000
#define MOST_WAIT_MS 600000

static bool
starts_with(const char *input, size_t length, const char *text, size_t text_length)
{
    return length >= text_length && memcmp(input, text, text_length) == 0;
}

#define STARTS_WITH(input, length, text) starts_with(input, length, text, sizeof(text) - 1)

/* Take a field up to a tab off the line. */
static bool
take_field(Part *line, Part *field)
{
    const char *tab = memchr(line->start, '\t', line->length);
    if (tab == NULL) {
        return false;
    }
    *field = (Part){line->start, (size_t)(tab - line->start)};
    line->length -= field->length + 1;
    line->start = tab + 1;
    return true;
}

/* Whether it is a decimal number from `least` to `most`, which has at most seven digits. */
static bool
is_between(Part part, long least, long most)
{
    long number = 0;
    for (size_t at = 0; at < part.length; at++) {
        if (at == 7 || part.start[at] < '0' || part.start[at] > '9') {
            return false;
        }
        number = number * 10 + (part.start[at] - '0');
    }
    return part.length > 0 && number >= least && number <= most;
}

/* PUT<TAB>key<TAB>ttl<TAB>tags<TAB>value<LF> */
static bool
read_put(Part *line, Request *request)
{
    Part ttl, tags;
    if (!take_field(line, &request->key) || !take_field(line, &ttl) || !take_field(line, &tags)) {
        return false;
    }
    request->options = (Part){ttl.start, ttl.length + 1 + tags.length};
    request->value = *line;
    return true;
}

/* TOUCH<TAB>key<TAB>ttl<LF>, in milliseconds */
static bool
read_touch(Part *line, Request *request)
{
    bool has_ttl = take_field(line, &request->key);
    request->step = *line;
    return has_ttl;
}

/* GET<TAB>key<LF>, DEL<TAB>key<LF>, INCR<TAB>key<LF>, INCR<TAB>key<TAB>step<LF> */
static bool
read_key(Part *line, Request *request)
{
    bool counts = request->verb == INCR || request->verb == DECR;
    if (counts && take_field(line, &request->key)) {
        request->step = *line;
        return line->length > 0 && memchr(line->start, '\t', line->length) == NULL;
    }
    request->key = *line;
    return memchr(line->start, '\t', line->length) == NULL;
}

/* FETCH<TAB>key<TAB>lease<LF>, FETCH<TAB>key<TAB>lease<TAB>wait<LF>, both in milliseconds */
static bool
read_fetch(Part *line, Request *request)
{
    Part lease;
    if (!take_field(line, &request->key)) {
        return false;
    }
    if (take_field(line, &lease)) {
        return is_between(lease, 1, MOST_LEASE_MS) && is_between(*line, 0, MOST_WAIT_MS);
    }
    return is_between(*line, 1, MOST_LEASE_MS);
}

static bool
read_line_arguments(Part *line, Request *request)
{
    switch (request->verb) {
    case STORE:
        return read_put(line, request);
    case FETCH:
        return read_fetch(line, request);
    case TOUCH:
        return read_touch(line, request);
    default:
        return read_key(line, request);
    }
}

typedef struct {
    const char *name;
    size_t length;
    enum verb verb;
} Named;

#define NAMED(name, verb) {name, sizeof(name) - 1, verb}

/* Move behind the verb; false if it is another one. */
static bool
take_line_verb(Part *line, enum verb *verb)
{
    static const Named verbs[] = {
        NAMED("GET\t", LOOK_UP), NAMED("PUT\t", STORE),  NAMED("INCR\t", INCR),
        NAMED("DECR\t", DECR),   NAMED("DEL\t", DELETE), NAMED("FETCH\t", FETCH),
        NAMED("TOUCH\t", TOUCH),
    };
    for (size_t at = 0; at < sizeof(verbs) / sizeof(verbs[0]); at++) {
        if (starts_with(line->start, line->length, verbs[at].name, verbs[at].length)) {
            *verb = verbs[at].verb;
            *line = (Part){line->start + verbs[at].length, line->length - verbs[at].length};
            return true;
        }
    }
    return false;
}

Request
read_line(const char *input, size_t length)
{
    Request request = {0};
    Part line = {input, length};
    if (!take_line_verb(&line, &request.verb)) {
        return request;
    }
    size_t most = request.verb == STORE || length < LONGEST_KEY ? length : LONGEST_KEY;
    const char *end = memchr(input, '\n', most);
    if (end == NULL || memchr(input, '\r', (size_t)(end - input)) != NULL) {
        return request;
    }
    line.length = (size_t)(end - line.start);
    request.length = read_line_arguments(&line, &request) ? (size_t)(end - input) + 1 : 0;
    return request;
}

/* Read a number without leading zeros, and the end of its line; move `*at` past them. */
static bool
take_number(const char *input, size_t length, size_t *at, size_t *number)
{
    size_t first = *at;
    *number = 0;
    while (*at < length && *at < first + 6 && input[*at] >= '0' && input[*at] <= '9') {
        *number = *number * 10 + (size_t)(input[(*at)++] - '0');
    }
    bool is_plain = *at > first && (input[first] != '0' || *at == first + 1);
    if (!is_plain || !STARTS_WITH(input + *at, length - *at, "\r\n")) {
        return false;
    }
    *at += 2;
    return true;
}

bool
take_bulk(const char *input, size_t length, size_t *at, Part *bulk)
{
    size_t bulk_length;
    if (*at >= length || input[*at] != '$') {
        return false;
    }
    ++*at;
    if (!take_number(input, length, at, &bulk_length) || length - *at < bulk_length + 2 ||
        !STARTS_WITH(input + *at + bulk_length, 2, "\r\n")) {
        return false;
    }
    *bulk = (Part){input + *at, bulk_length};
    *at += bulk_length + 2;
    return true;
}

static bool
is_word(Part part, const char *word)
{
    return part.length == strlen(word) && memcmp(part.start, word, part.length) == 0;
}

/* Read `count` bulk strings; return the part with all of them. */
static bool
take_bulks(const char *input, size_t length, size_t *at, size_t count, Part *bulks)
{
    Part bulk;
    bulks->start = input + *at;
    for (size_t taken = 0; taken < count; taken++) {
        if (!take_bulk(input, length, at, &bulk)) {
            return false;
        }
    }
    bulks->length = (size_t)(input + *at - bulks->start);
    return true;
}

static enum verb
resp_verb(Part name)
{
    static const Named verbs[] = {
        NAMED("GET", LOOK_UP),       NAMED("SET", STORE),     NAMED("TAG.SET", TAG_STORE),
        NAMED("MGET", LOOK_UP_MANY), NAMED("INCR", INCR),     NAMED("DECR", DECR),
        NAMED("INCRBY", INCRBY),     NAMED("DECRBY", DECRBY), NAMED("DEL", DELETE),
        NAMED("TAG.FETCH", FETCH),   NAMED("TOUCH", TOUCH),   NAMED("EXISTS", EXISTS),
        NAMED("EXPIRE", EXPIRE),     NAMED("TTL", TTL_LEFT),  NAMED("PEXPIRE", PEXPIRE),
        NAMED("PTTL", PTTL_LEFT),
    };
    for (size_t at = 0; at < sizeof(verbs) / sizeof(verbs[0]); at++) {
        if (name.length == verbs[at].length &&
            memcmp(name.start, verbs[at].name, name.length) == 0) {
            return verbs[at].verb;
        }
    }
    return VERBS;
}

/* What follows the key: LEASE milliseconds, or LEASE milliseconds WAIT milliseconds. */
static bool
read_fetch_options(const char *input, size_t length, size_t *at, size_t count)
{
    Part name, lease, wait = {"0", 1};
    if (!take_bulk(input, length, at, &name) || !is_word(name, "LEASE") ||
        !take_bulk(input, length, at, &lease)) {
        return false;
    }
    if (count == 4 && (!take_bulk(input, length, at, &name) || !is_word(name, "WAIT") ||
                       !take_bulk(input, length, at, &wait))) {
        return false;
    }
    return is_between(lease, 1, MOST_LEASE_MS) && is_between(wait, 0, MOST_WAIT_MS);
}

/* Read the rest of the request after the verb; false if it is not plain, or not complete. */
static bool
read_arguments(const char *input, size_t length, size_t *at, size_t count, Request *request)
{
    switch (request->verb) {
    case LOOK_UP:
    case INCR:
    case DECR:
    case DELETE:
    case TOUCH:
    case TTL_LEFT:
    case PTTL_LEFT:
    case EXISTS:
        return count == 1 && take_bulk(input, length, at, &request->key);
    case INCRBY:
    case DECRBY:
    case EXPIRE:
    case PEXPIRE:
        return count == 2 && take_bulk(input, length, at, &request->key) &&
               take_bulk(input, length, at, &request->step) && request->step.length > 0;
    case FETCH:
        return (count == 3 || count == 5) && take_bulk(input, length, at, &request->key) &&
               read_fetch_options(input, length, at, count - 1);
    case LOOK_UP_MANY:
        request->key_count = count;
        return count > 0 && take_bulks(input, length, at, count, &request->keys);
    case STORE:
    case TAG_STORE:
        return count >= 2 && count < MOST_ARGUMENTS &&
               take_bulk(input, length, at, &request->key) &&
               take_bulk(input, length, at, &request->value) &&
               take_bulks(input, length, at, count - 2, &request->options);
    case VERBS:
        break;
    }
    return false;
}

/* Verbs are in capitals, as clients send them. */
Request
read_resp(const char *input, size_t length)
{
    Request request = {0};
    size_t at = 1, count;
    Part verb;
    if (length == 0 || input[0] != '*' || !take_number(input, length, &at, &count) || count == 0 ||
        !take_bulk(input, length, &at, &verb)) {
        return request;
    }
    request.verb = resp_verb(verb);
    bool is_plain = read_arguments(input, length, &at, count - 1, &request);
    request.length = is_plain ? at : 0;
    return request;
}

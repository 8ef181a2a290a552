/* The interfaces between the parts of PlainRequests. */

#ifndef TAGCACHE_PLAIN_H
#define TAGCACHE_PLAIN_H

#include "request.h"

/* The decimal digits of the length of a value, and what surrounds it. */
#define FRAME_BYTES 32

/* What surrounds the text of a value in a response of HTTP, and the longest response to a store. */
#define RESPONSE_BYTES 160

/* The room for a reply, without the value itself. */
static inline size_t
frame_bytes(enum dialect dialect)
{
    return dialect == HTTP ? RESPONSE_BYTES : FRAME_BYTES;
}

/* Longer times, in milliseconds, are for Python: about 300 years. */
#define MOST_MS 10000000000000LL

enum found { ANSWERED, FOR_PYTHON, FAILED };

/* The caller must make sure that there is room. */
static inline void
append(Output *output, const char *bytes, size_t length)
{
    memcpy(output->bytes + output->length, bytes, length);
    output->length += length;
}

/* Write a decimal number. */
void append_number(Output *output, size_t number);

/* How many keys are looked up together. */
#define KEYS_AT_ONCE 16

typedef struct {
    PyObject *bytes;
    Py_hash_t hash;
} Key;

/* A request that was read before its turn. Without key.bytes, it was not plain, or not read. */
typedef struct {
    Request request;
    Key key;
} Ahead;

/* Where a key will be looked for; without a table, nowhere. */
typedef struct {
    const Entries *table;
    Py_hash_t hash;
    bool is_store; /* the neighbours of the entry will change, too */
} Sought;

static inline bool
is_store(enum verb verb)
{
    return verb == STORE || verb == TAG_STORE;
}

/* Make a key, which the caller owns; false, without an exception, if Python must. */
bool make_key(Part part, Key *key);

/* The table that may hold the entry of a key, borrowed; NULL if it is not one of ours. */
Entries *table_of(const PlainRequests *self, Py_hash_t hash);

/* Prefetch the memory that look-ups of up to KEYS_AT_ONCE keys will read. */
void prefetch(const Sought sought[], size_t count);
void prefetch_keys(const PlainRequests *self, const Key keys[], size_t count);

/* Read the first request of the input, and make its key; false, without a key, if it is not plain. */
bool read_ahead(const Answers *answers, const char *input, size_t length, double now, Ahead *ahead);

/* Answer requests from the beginning of `input` while they are plain and there is room for their
 * replies. `ahead` is the first one, if it was read already. Return how many bytes were answered,
 * and add to the counts of each verb. -1 with an exception. */
Py_ssize_t plain_answer(PlainRequests *self, const Answers *answers, const char *input,
                        size_t length, const Ahead *ahead, double now, Output *output,
                        long long counts[VERBS]);

/* Answer a GET, a FETCH that is a hit, and a MGET; see look_up.c. */
enum found look_up(PlainRequests *self, enum dialect dialect, const Key *key, double now,
                   Output *output);
enum found answer_fetch(PlainRequests *self, enum dialect dialect, const Key *key, double now,
                        Output *output);
enum found look_up_many(PlainRequests *self, enum dialect dialect, const Request *request,
                        double now, Output *output);

/* Read a request that repeats one of these heads; see http_head.c. */
Request read_http(const HttpHeads *heads, const char *input, size_t length, double now);

/* Whether requests with this verb may still be answered that were read earlier. */
bool is_accepted(const HttpHeads *heads, enum verb verb, double now);

/* Write a response; see http_json.c. A value is written only if there is room, and it is text. The
 * caller makes sure that there is room for the others. A time to live of 0 is none. */
bool write_http_value(Output *output, const char *value, size_t length);
void write_http_missing(Output *output);
void write_http_stored(Output *output, uint64_t ttl_ms);

/* The bytes of a JSON string without its quotes, which `read_http` has accepted. NULL, without an
 * exception, if Python must read it. */
PyObject *unescaped(Part text);

/* Whether an entry was invalidated and is still stored; true, too, if that is not known. */
bool may_be_dead(const PlainRequests *self, const Key *key, const Entry *entry);

/* The entry of a key, if it exists, borrowed; NULL if not, or if Python must look. */
Entry *find_live(const PlainRequests *self, const Key *key, double now);

/* Write a decimal number. The caller must make sure that there is room. */
void append_number(Output *output, size_t number);

/* Read a decimal number as counters have it: no plus sign or leading zero, at most 18 digits. */
bool read_number(Part text, long long *number);

/* Whether the tags of an entry, which were checked when it was stored, fit the present limits. */
bool has_fitting_tags(const PlainRequests *self, const Entry *entry);

/* Give a live entry another time to live; false, without an exception, if Python must. With
 * `counts`, it is a store for the counters and the limits, too. */
bool renew_entry(PlainRequests *self, const Key *key, Entry *entry, double ttl, bool counts,
                 double now);

/* Answer TOUCH, EXPIRE, PEXPIRE, TTL, PTTL and EXISTS; see lifetimes.c. */
enum found answer_lifetime(PlainRequests *self, enum dialect dialect, const Request *request,
                           const Key *key, double now, Output *output);

/* Note that an entry was looked up. */
void note_hit(const PlainRequests *self, Entry *entry);

/* Store a new value in a live entry with the same tags; false, without an exception, if Python
 * must. */
bool overwrite_entry(PlainRequests *self, const Key *key, Entry *entry, PyObject *value, double ttl,
                     double now);

/* Answer the counters (INCR, DECR, ...) and DEL; see counting.c. */
enum found answer_count(PlainRequests *self, enum dialect dialect, const Request *request,
                        const Key *key, double now, Output *output);
enum found answer_delete(PlainRequests *self, enum dialect dialect, const Key *key, Output *output);

/* Longer texts of options are for Python. */
#define LONGEST_OPTIONS 256

/* What a store asks for: its options as text, without the time to live in seconds if that was read;
 * 0: it was not. */
typedef struct {
    Part text;
    double ttl;
} Asked;

/* Prepare the names that `answer_store` and the functions below use; -1 with an exception. */
int storing_ready(void);
int options_ready(void);

/* Read the time to live, if it is plain. */
Asked read_asked(enum dialect dialect, Part text);

/* Get the tags, borrowed, and the time to live; false if they are not known. */
bool recall(const PlainRequests *self, PyObject *reader, const Asked *asked, How *how);

/* Remember what options mean that were used to store, unless they ask for more than tags and a time to
 * live: then Python must store each time. */
void remember(PlainRequests *self, PyObject *reader, const Asked *asked, PyObject *options);

/* Forget the parsed options of stores. */
void forget_all(PlainRequests *self);

/* Answer a store; see storing.c. */
enum found answer_store(PlainRequests *self, const Answers *answers, const Request *request,
                        const Key *key, double now, Output *output);

#endif

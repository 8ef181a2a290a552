/* The interfaces between the parts of PlainRequests. */

#ifndef TAGCACHE_PLAIN_H
#define TAGCACHE_PLAIN_H

#include "request.h"

/* The decimal digits of the length of a value, and what surrounds it. */
#define FRAME_BYTES 32

enum found { ANSWERED, FOR_PYTHON, FAILED };

/* The caller must make sure that there is room. */
static inline void
append(Output *output, const char *bytes, size_t length)
{
    memcpy(output->bytes + output->length, bytes, length);
    output->length += length;
}

/* How many keys are looked up together. */
#define KEYS_AT_ONCE 16

typedef struct {
    PyObject *bytes;
    Py_hash_t hash;
} Key;

/* Make a key, which the caller owns; false, without an exception, if Python must. */
bool make_key(Part part, Key *key);

/* The table that may hold the entry of a key, borrowed; NULL if it is not one of ours. */
Entries *table_of(const PlainRequests *self, Py_hash_t hash);

/* Prefetch the memory that look-ups of these keys will read. */
void prefetch(const PlainRequests *self, const Key *keys, size_t count);

/* Answer a GET, a FETCH that is a hit, and a MGET; see look_up.c. */
enum found look_up(PlainRequests *self, enum dialect dialect, const Key *key, double now,
                   Output *output);
enum found answer_fetch(PlainRequests *self, enum dialect dialect, const Key *key, double now,
                        Output *output);
enum found look_up_many(PlainRequests *self, enum dialect dialect, const Request *request,
                        double now, Output *output);

/* The entry of a key, if it exists, borrowed; NULL if Python must look. */
Entry *find_live(const PlainRequests *self, const Key *key, double now);

/* Store a new value in a live entry with the same tags; false, without an exception, if Python
 * must. */
bool overwrite_entry(PlainRequests *self, const Key *key, Entry *entry, PyObject *value, double ttl,
                     double now);

/* Answer the counters (INCR, DECR, ...) and DEL; see counting.c. */
enum found answer_count(PlainRequests *self, enum dialect dialect, const Request *request,
                        const Key *key, double now, Output *output);
enum found answer_delete(PlainRequests *self, enum dialect dialect, const Key *key, Output *output);

/* Prepare the names that `answer_store` uses; -1 with an exception. */
int storing_ready(void);

/* Forget the parsed options of stores. */
void forget_all(PlainRequests *self);

/* Answer a store; see storing.c. */
enum found answer_store(PlainRequests *self, const Answers *answers, const Request *request,
                        const Key *key, double now, Output *output);

#endif

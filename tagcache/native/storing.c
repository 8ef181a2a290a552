/* Stores: do a store here in the usual cases.
 *
 * Most stores overwrite a live entry with the same tags, or add one. For these, this file does the
 * work of Store in tagcache/engine/store.py. All other stores call the cache: those that change
 * tags, or need a new bucket of the expiry index, or that might exceed a limit of memory. */

#include "plain.h"

#include <math.h>

static PyObject *BUCKETS;

int
storing_ready(void)
{
    if (BUCKETS == NULL) {
        BUCKETS = PyUnicode_InternFromString("buckets");
    }
    return BUCKETS == NULL ? -1 : 0;
}

/* Whether an attribute of the store is not set, or has another type than in production. */
static bool
is_incomplete(const StoreFields *store)
{
    return store->end == NULL || Py_TYPE(store->end) != &LinksType ||
           ((Links *)store->end)->older == NULL || store->sieve == NULL ||
           !PyObject_TypeCheck(store->sieve, &SieveHandType) ||
           store->watchers == NULL || !PyList_CheckExact(store->watchers) || store->tags == NULL ||
           !PyObject_TypeCheck(store->tags, &TagTotalsType) || store->expiry == NULL;
}

/* Whether somebody watches for changes of the entry of a key. */
static bool
is_watched(const PlainRequests *self, PyObject *key)
{
    bool removed = PyDict_Size(self->removed) > 0 && PyDict_Contains(self->removed, key) != 0;
    PyErr_Clear();
    return removed || PyList_GET_SIZE(self->store->watchers) > 0;
}

/* Make sure that there is memory for one more store, see tagcache/engine/headroom.py. */
static bool
has_headroom(PlainRequests *self)
{
    if (self->enough_for == 0) {
        PyObject *units = PyObject_CallNoArgs(self->headroom);
        self->enough_for = units == NULL ? 0 : PyLong_AsLongLong(units);
        Py_XDECREF(units);
        PyErr_Clear();
    }
    return self->enough_for > 0;
}

/* Whether an entry can stay in its bucket of the expiry index with another time to live. */
static bool
may_wait_on(const Entry *entry, double ttl, double now)
{
    return entry->ttl == ttl ||
           (isfinite(entry->ttl) && isfinite(ttl) && entry->stored + entry->ttl <= now + ttl);
}

/* The bucket of the expiry index for a deadline, borrowed, as ExpiryIndex.bucket finds it; NULL if
 * there is none yet. */
static Links *
find_bucket(const StoreFields *store, double deadline, double now)
{
    const double ticks_per_second = 16;
    const int fine_bits = 7;
    if (deadline >= 1e15) {
        return NULL;
    }
    int64_t tick = (int64_t)(deadline * ticks_per_second);
    int64_t away = tick - (int64_t)(now * ticks_per_second);
    int shift = 0;
    for (int64_t left = away >> fine_bits; left > 0; left >>= 1) {
        shift++;
    }
    PyObject *buckets = PyObject_GetAttr(store->expiry, BUCKETS);
    PyObject *number = PyLong_FromLongLong(tick >> shift << shift);
    PyObject *bucket = NULL;
    if (buckets != NULL && number != NULL && PyDict_CheckExact(buckets)) {
        bucket = PyDict_GetItemWithError(buckets, number);
    }
    PyErr_Clear();
    Py_XDECREF(buckets);
    Py_XDECREF(number);
    bool is_ring = bucket != NULL && Py_TYPE(bucket) == &LinksType &&
                   ((Links *)bucket)->sooner != NULL;
    return is_ring ? (Links *)bucket : NULL;
}

/* Whether a value may be replaced by one with so many more bytes without a look at the limit of memory,
 * see Budget.put. */
static bool
may_take(const PlainRequests *self, Py_ssize_t more)
{
    const StoreFields *store = self->store;
    const TagTotals *tags = (TagTotals *)store->tags;
    return self->max_memory == 0 ||
           (more <= 0 && store->size + store->items * ENTRY_BYTES +
                                 tags->references * REFERENCE_BYTES +
                                 tags->count_all * TAG_BYTES + tags->name_bytes <=
                             self->max_memory);
}

/* Whether the hand of SIEVE points to an entry: it must move on before the entry does. */
static bool
is_at_hand(const PlainRequests *self, const Entry *entry)
{
    return self->uses == NULL && ((SieveHand *)self->store->sieve)->hand == (PyObject *)entry;
}

/* Overwrite a live entry that keeps its tags; false if Python must. */
static bool
overwrite(PlainRequests *self, Entry *entry, PyObject *value, const How *how, double now)
{
    StoreFields *store = self->store;
    Py_ssize_t more = PyBytes_GET_SIZE(value) - PyBytes_GET_SIZE(entry->value);
    if (entry->tags != how->tags || entry->links.older == NULL ||
        entry->stored + entry->ttl <= now || !may_take(self, more) || is_at_hand(self, entry)) {
        return false;
    }
    bool moves = !may_wait_on(entry, how->ttl, now);
    bool needs_bucket = moves && isfinite(how->ttl);
    Links *bucket = needs_bucket ? find_bucket(store, now + how->ttl, now) : NULL;
    if (needs_bucket && bucket == NULL) {
        return false;
    }
    if (moves) {
        leave_bucket(&entry->links);
    }
    if (bucket != NULL) {
        join_bucket(&entry->links, bucket);
    }
    Py_SETREF(entry->value, Py_NewRef(value));
    entry->stored = now;
    entry->ttl = how->ttl;
    if (self->uses != NULL) {
        use_again(entry, self->uses);
    }
    move_storing(&entry->links, (Links *)store->end);
    store->size += more;
    return true;
}

/* Store a new key, as Store._insert does; false if Python must. */
static bool
insert(PlainRequests *self, Entries *table, const Key *key, PyObject *value, const How *how,
       double now)
{
    StoreFields *store = self->store;
    Links *bucket = isfinite(how->ttl) ? find_bucket(store, now + how->ttl, now) : NULL;
    if (self->max_memory > 0 || (isfinite(how->ttl) && bucket == NULL)) {
        return false;
    }
    PyTypeObject *type = self->uses == NULL ? &EntryType : &UsedEntryType;
    Entry *entry = new_entry(type, key->bytes, value, how->tags, now, how->ttl);
    if (entry == NULL) {
        return false;
    }
    if (add_entry(table, entry) < 0) {
        Py_DECREF(entry);
        return false;
    }
    if (!add_tags((TagTotals *)store->tags, entry)) {
        drop_entry(table, entry);
        Py_DECREF(entry);
        return false;
    }
    if (bucket != NULL) {
        join_bucket(&entry->links, bucket);
    }
    if (self->uses != NULL) {
        join_use(entry, self->uses);
    }
    join_storing(&entry->links, (Links *)store->end);
    store->items++;
    store->size += PyBytes_GET_SIZE(key->bytes) + PyBytes_GET_SIZE(value);
    store->key_size += PyBytes_GET_SIZE(key->bytes);
    Py_DECREF(entry);
    return true;
}

/* Whether the limits and the watchers allow a value to be stored here. */
static bool
may_store(PlainRequests *self, const Key *key, PyObject *value)
{
    return PyBytes_GET_SIZE(key->bytes) <= self->longest_key &&
           PyBytes_GET_SIZE(value) <= self->longest_value && !is_incomplete(self->store) &&
           !is_watched(self, key->bytes) && has_headroom(self);
}

static bool
count_store(PlainRequests *self, bool stored)
{
    PyErr_Clear();
    if (stored) {
        self->puts++;
        self->enough_for--;
    }
    return stored;
}

bool
overwrite_entry(PlainRequests *self, const Key *key, Entry *entry, PyObject *value, double ttl,
                double now)
{
    How how = {NULL, NULL, entry->tags, ttl};
    return may_store(self, key, value) &&
           count_store(self, overwrite(self, entry, value, &how, now));
}

bool
has_fitting_tags(const PlainRequests *self, const Entry *entry)
{
    Py_ssize_t count = PyTuple_GET_SIZE(entry->tags);
    for (Py_ssize_t at = 0; at < count; at++) {
        if (PyObject_Length(PyTuple_GET_ITEM(entry->tags, at)) > self->longest_tag) {
            return false;
        }
    }
    return count <= self->most_tags;
}

bool
renew_entry(PlainRequests *self, const Key *key, Entry *entry, double ttl, bool counts, double now)
{
    How how = {NULL, NULL, entry->tags, ttl};
    if (is_incomplete(self->store) || is_watched(self, key->bytes)) {
        return false;
    }
    if (!counts) {
        return overwrite(self, entry, entry->value, &how, now);
    }
    return PyBytes_GET_SIZE(key->bytes) <= self->longest_key &&
           PyBytes_GET_SIZE(entry->value) <= self->longest_kept_value &&
           has_fitting_tags(self, entry) && has_headroom(self) &&
           count_store(self, overwrite(self, entry, entry->value, &how, now));
}

/* Store without a call of the cache; false if Python must, without an exception. */
static bool
store_here(PlainRequests *self, const Key *key, PyObject *value, const How *how, double now)
{
    Entries *table = table_of(self, key->hash);
    if (table == NULL || !may_store(self, key, value)) {
        return false;
    }
    Entry *entry = find_entry(table, key->bytes, key->hash);
    if (entry != NULL && may_be_dead(self, key, entry)) {
        return false;
    }
    return count_store(self, entry == NULL ? insert(self, table, key, value, how, now)
                                           : overwrite(self, entry, value, how, now));
}

/* Call the cache. If it raises, it has changed nothing, and Python repeats the request. `*ttl_ms` is
 * what the cache returns, 0 for None. */
static bool
call_put(PlainRequests *self, const Key *key, PyObject *value, PyObject *reader, Part text,
         const Asked *asked, uint64_t *ttl_ms)
{
    PyObject *copy = PyBytes_FromStringAndSize(text.start, (Py_ssize_t)text.length);
    PyObject *options = copy == NULL ? NULL : PyObject_CallOneArg(reader, copy);
    PyObject *result = NULL;
    self->called_python = true;
    if (options != NULL && options != Py_None) {
        PyObject *arguments[] = {key->bytes, value, options};
        result = PyObject_Vectorcall(self->put, arguments, 3, NULL);
    }
    PyErr_Clear();
    bool stored = result != NULL;
    if (stored) {
        *ttl_ms = result == Py_None ? 0 : PyLong_AsUnsignedLongLong(result);
        remember(self, reader, asked, options);
    }
    Py_XDECREF(result);
    Py_XDECREF(options);
    Py_XDECREF(copy);
    return stored;
}

/* Whether a time to live is none, or an exact number of milliseconds. */
static bool
is_exact(double ttl)
{
    return isinf(ttl) || ttl < 1e12;
}

/* The caller must make sure that there is room. */
static void
write_stored(Output *output, enum dialect dialect, uint64_t ttl_ms)
{
    if (dialect == HTTP) {
        write_http_stored(output, ttl_ms);
    } else if (dialect == LINE) {
        append(output, "OK\n", 3);
    } else {
        append(output, "+OK\r\n", 5);
    }
}

enum found
answer_store(PlainRequests *self, const Answers *answers, const Request *request, const Key *key,
             double now, Output *output)
{
    if (request->options.length > LONGEST_OPTIONS ||
        output->capacity - output->length < frame_bytes(answers->dialect)) {
        return FOR_PYTHON;
    }
    PyObject *value = request->has_escapes
                          ? unescaped(request->value)
                          : PyBytes_FromStringAndSize(request->value.start,
                                                      (Py_ssize_t)request->value.length);
    if (value == NULL) {
        PyErr_Clear();
        return FOR_PYTHON;
    }
    PyObject *reader = request->verb == STORE ? answers->read_options : answers->read_tag_options;
    Asked asked = read_asked(answers->dialect, request->options);
    How how;
    bool is_known = recall(self, reader, &asked, &how) && is_exact(how.ttl);
    uint64_t ttl_ms = is_known && isfinite(how.ttl) ? (uint64_t)llround(how.ttl * 1000) : 0;
    bool stored = (is_known && store_here(self, key, value, &how, now)) ||
                  call_put(self, key, value, reader, request->options, &asked, &ttl_ms);
    Py_DECREF(value);
    if (!stored) {
        return FOR_PYTHON;
    }
    write_stored(output, answers->dialect, ttl_ms);
    return ANSWERED;
}
